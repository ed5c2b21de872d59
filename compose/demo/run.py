"""`moorage demo`: a fresh stack in a folder of its own, the story, and everything gone again."""

import shutil
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console

from compose.demo import dead_steps, network_steps, steps
from compose.demo.cast import Cast
from compose.demo.story import Story
from compose.settings import Settings
from compose.stack import running_stack
from compose.up import Stopped, stoppable
from schemas.errors import Code, ServiceError

_INTERRUPTED = 130
_STEPS = (*steps.STEPS, *dead_steps.STEPS, *steps.LAST_STEPS, *network_steps.STEPS)


def demo(settings: Settings, folder: Path, shim: Path, console: Console) -> int:
    """Tell the story; the exit status: 0 if every step held. The state is kept only if one did not.

    It runs on services of its own, whatever servers the settings name: it makes networks and kills things.
    """
    if not shim.is_file():
        raise ServiceError(Code.NOT_PROVISIONED, f"the CNI executable {shim} is missing: run `make shim`")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    state_dir = Path(tempfile.mkdtemp(prefix="demo-", dir=folder))
    story, started = Story(console, len(_STEPS)), time.monotonic()
    try:
        with stoppable():
            _tell(settings, state_dir, shim, story, console)
    except Stopped:
        console.print("interrupted; everything was stopped")
        return _INTERRUPTED
    except Exception as error:
        console.print(f"{error}", highlight=False, markup=False)
    if story.all_held:
        shutil.rmtree(state_dir)
        console.print(
            f"everything was stopped again; {time.monotonic() - started:.0f} s in all", highlight=False
        )
    else:
        console.print(f"logs are in {state_dir}", highlight=False)
    return story.end()


def _tell(settings: Settings, state_dir: Path, shim: Path, story: Story, console: Console) -> None:
    progress = partial(console.print, highlight=False, markup=False)
    with (
        running_stack(settings.private(), state_dir, ["node-1", "node-2"], progress) as stack,
        ExitStack() as undo,
    ):
        cast = Cast(stack, story, shim, undo)
        for step in _STEPS:
            with story.step((step.__doc__ or step.__name__).splitlines()[0].rstrip(".")):
                step(cast)
