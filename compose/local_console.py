"""A console beside a stack on this machine: a process of its own, and the link that lets one browser in."""

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from broker import provisioning
from compose.services import ports
from compose.services.process import Child
from compose.stack import Stack, start
from schemas.errors import Code, ServiceError

_START_S = 30.0
_POLL_S = 0.05


@dataclass(frozen=True)
class LocalConsole:
    """A console that answers."""

    url: str
    sign_in: str = field(repr=False)
    """Where a browser becomes an operator's, once."""
    tokens_file: Path
    process: Child


@contextmanager
def local_console(stack: Stack, kubeconfig: str | None = None) -> Iterator[LocalConsole]:
    """Run a console for `stack` while the block runs. Raises ServiceError if it does not answer in time."""
    folder = stack.state_dir / "console"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    enrolled = provisioning.enroll_client(stack.servers.management_url, "local", "console", rotate=True)
    reserved = ports.reserve(1, f"console {stack.state_dir}")
    address, one_time = f"127.0.0.1:{reserved.ports[0]}", secrets.token_urlsafe(32)
    env = {
        "MOORAGE_AMQP_URL": enrolled.amqp_url,
        **stack.servers.env,
        "MOORAGE_CONSOLE_LISTEN": address,
        "MOORAGE_CONSOLE_ONE_TIME_TOKEN": one_time,
        "MOORAGE_TOKENS_FILE": str(folder / "tokens.json"),
    }
    if kubeconfig is not None:
        env["MOORAGE_KUBECONFIG"] = kubeconfig
    reserved.release()
    with ExitStack() as undo:
        child = start("console", ["console"], env, folder / "console.log", undo)
        wait_until_it_answers(address, child)
        url = f"http://{address}/"
        yield LocalConsole(url, f"{url}sign-in/{one_time}", folder / "tokens.json", child)


def wait_until_it_answers(address: str, child: Child) -> None:
    """Return when a console answers at HOST:PORT: that nobody is let in without a token is an answer.

    Raises `internal`, with the end of its log, where it does not.
    """
    deadline = time.monotonic() + _START_S
    while True:
        try:
            httpx.get(f"http://{address}/api/v1/networks", timeout=_POLL_S * 20)
        except httpx.HTTPError as error:
            if child.pid is None or time.monotonic() > deadline:
                said = "\n".join(f"  | {line}" for line in child.tail())
                raise ServiceError(
                    Code.INTERNAL, f"the console does not answer; the end of {child.log}:\n{said}"
                ) from error
            time.sleep(_POLL_S)
        else:
            return
