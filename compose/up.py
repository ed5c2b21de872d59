"""`moorage up`: everything on this machine in the foreground, until Ctrl-C."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table

from compose.asking import wait_for_nodes
from compose.local_console import LocalConsole, local_console
from compose.settings import Settings
from compose.stack import Stack, check_runs, running_stack

_WATCH_S = 0.5


class Stopped(Exception):
    """SIGTERM or Ctrl-C: leave all contexts in order."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn SIGTERM and SIGINT into `Stopped` once; later ones are ignored while things are taken down."""

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)
        raise Stopped

    before = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def up(settings: Settings, state_dir: Path, nodes: int, console: Console) -> None:
    """Run until Ctrl-C or SIGTERM. Raises ServiceError when something cannot start, or ends by itself."""
    names = [f"node-{number}" for number in range(1, nodes + 1)]
    try:
        with (
            stoppable(),
            console.status("starting") as status,
            running_stack(
                settings, state_dir, names, partial(console.print, highlight=False, markup=False)
            ) as stack,
            local_console(stack, settings.kubeconfig) as web,
        ):
            wait_for_nodes(stack.console, names, stack.check)
            status.stop()
            _describe(stack, web, console)
            while True:
                stack.check()
                check_runs(web.process)
                threading.Event().wait(_WATCH_S)
    except Stopped:
        console.print("stopped; broker and database keep their data in", str(state_dir))


def _describe(stack: Stack, web: LocalConsole, console: Console) -> None:
    table = Table("what", "where", title="moorage is up", title_justify="left")
    table.add_row("console", f"{web.url}, and REST at {web.url}api/v1")
    table.add_row("", f"tokens: MOORAGE_TOKENS_FILE={web.tokens_file} moorage token create NAME")
    table.add_row("", f"pid {web.process.pid}, log {web.process.log}")
    table.add_row("commands", f"source {stack.env_file}; moorage network list")
    if stack.servers.local is not None:
        broker, database = stack.servers.local.rabbitmq.ports, stack.servers.local.mariadb.port
        table.add_row("RabbitMQ", f"127.0.0.1:{broker.amqp}, management 127.0.0.1:{broker.management}")
        table.add_row("MariaDB", f"127.0.0.1:{database}")
    table.add_row("allocator", f"pid {stack.allocator.pid}, log {stack.allocator.log}")
    table.add_row("", f"http://{stack.allocator_monitoring}/metrics, /healthz, /readyz")
    for node in stack.nodes:
        table.add_row(node.name, f"netns {node.host.netns}, pid {node.process.pid}, log {node.process.log}")
        table.add_row("", f"CNI socket {node.socket}")
        table.add_row("", f"http://{node.monitoring}/metrics, /healthz, /readyz")
    table.add_row("state", str(stack.state_dir))
    console.print(table)
    # In one line however narrow the terminal, to be clicked or copied.
    console.print(f"Open the console: {web.sign_in}", soft_wrap=True, highlight=False)
    console.print("The link lets one browser in, once. Ctrl-C stops it.")
