"""Sound calls in hostile hands, to the executable and at the socket, before a node worker on a fake host.

Always one JSON object or none, as the verb wants it, and the right exit status; and the worker goes on.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from cni import wire
from cni.endpoint import serve
from cni.errors import SERVICE_CODES, SpecCode
from tests.acceptance.mutations import CONF, ENV, NEW, PREVIOUS, SOUND, calls, frames, retyped
from tests.acceptance.shim_process import Outcome, ending, start
from tests.cni_fakes import exchange_frames
from tests.node_allocator import FakeAllocator, present
from tests.node_fakes import FakeHost, node

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("mutated-calls")]

FIXED = settings(
    max_examples=300,  # and 200 in test_shim_any_input.py
    derandomize=True,  # the same examples wherever it runs
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
FIXED_FRAMES = settings(FIXED, max_examples=500)
UNFORESEEN = SERVICE_CODES["internal"]
FORESEEN = {*SpecCode, *SERVICE_CODES.values()} - {UNFORESEEN}
SOUND_POD = {
    **ENV,
    "CNI_CONTAINERID": "sound",
    "CNI_NETNS": "/run/netns/sound",
    "CNI_ARGS": "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=sound-0",
}
SILENT = {"DEL", "CHECK", "GC", "STATUS"}


@dataclass(frozen=True)
class Served:
    """A worker's endpoint in a loop of its own, for tests that are no coroutines."""

    runner: asyncio.Runner
    shim: Path
    path: Path

    def call(self, env: dict[str, str | bytes], stdin: bytes) -> Outcome:
        """One process."""
        return self.runner.run(_one(self.shim, self.path, env, stdin))

    def at_socket(self, env: Mapping[str, str], stdin: bytes) -> tuple[int, Any]:
        """The answer to a whole frame."""
        return self.runner.run(exchange_frames(self.path, wire.encode_call(env, stdin)))

    def serves(self) -> None:
        """That a sound pod is attached and detached."""
        for verb in ("ADD", "DEL"):
            status, document = self.at_socket({**SOUND_POD, "CNI_COMMAND": verb}, json.dumps(CONF).encode())
            assert status == 0, document


async def _one(shim: Path, path: Path, env: dict[str, str | bytes], stdin: bytes) -> Outcome:
    return await ending(await start(shim, path, env), stdin)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, shim: Path) -> Iterator[Served]:
    """The product's own handlers behind the socket, and a container `c1` for CHECK and DEL to be about."""
    folder = tmp_path_factory.mktemp("mutated")
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def open_all() -> None:
            worker = await stack.enter_async_context(
                node(folder / "journal.sqlite", FakeAllocator(present()), FakeHost())
            )
            await stack.enter_async_context(serve(folder / "cni.sock", worker.handlers))

        runner.run(open_all())
        yield Served(runner, shim, folder / "cni.sock")
        runner.run(stack.aclose())


def verb_of(env: dict[str, str | bytes]) -> str:
    verb = env.get("CNI_COMMAND", "")
    return verb.decode(errors="replace") if isinstance(verb, bytes) else verb


def judge(outcome: Outcome, verb: str) -> None:
    """Fail unless this is what a runtime can do something with."""
    if outcome.status == 0 and verb in SILENT:
        assert outcome.stdout == b""
    elif outcome.status == 0:
        assert verb in {"ADD", "VERSION"}
        assert outcome.document["cniVersion"]
    else:
        assert outcome.document["code"] in FORESEEN, outcome
        outcome.failed(outcome.document["code"])


def test_the_sound_calls_that_are_mutated_are_answered_well(served: Served):
    """Else mutations of them would show nothing."""
    env = {**ENV, "CNI_ARGS": "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0"}
    for verb, more in (
        ("DEL", {}),
        ("ADD", {}),
        ("STATUS", {}),
        ("GC", {}),
        ("CHECK", {"prevResult": PREVIOUS}),
    ):
        outcome = served.call({**env, "CNI_COMMAND": verb}, json.dumps(CONF | more).encode())
        assert outcome.status == 0, (verb, outcome)


@FIXED
@given(calls())
def test_a_mutated_call_gives_one_json_object_and_the_right_exit_status(
    served: Served, call: tuple[dict[str, str | bytes], bytes]
):
    env, stdin = call
    outcome, verb = served.call(env, stdin), verb_of(env)
    judge(outcome, verb)
    if (verb, outcome.status) == ("ADD", 0):
        assert served.call(env | {"CNI_COMMAND": "DEL"}, stdin) == Outcome(0, b""), (
            "it is there to be deleted"
        )
    served.serves()


@pytest.mark.parametrize(("verb", "conf"), SOUND[:-1], ids=range(len(SOUND) - 1))
def test_every_place_of_a_sound_configuration_may_be_of_any_type(
    served: Served, verb: str, conf: dict[str, Any]
):
    """At the socket, for it is a lot, and the executable passes on whatever there is."""
    env = {**ENV, **(NEW if verb in {"ADD", "DEL"} else {}), "CNI_COMMAND": verb}
    for done, stdin in retyped(conf):
        status, document = served.at_socket(env, stdin)
        outcome = Outcome(status, b"" if document is None else json.dumps(document).encode())
        try:
            judge(outcome, verb)
            if (verb, status) == ("ADD", 0):
                assert served.at_socket(env | {"CNI_COMMAND": "DEL"}, stdin) == (0, None)
        except AssertionError as failure:
            failure.add_note(f"{verb} with {done}")
            raise
    served.serves()


def complete(frame: bytes) -> bool:
    """Whether all is there that its header says, or more than a frame may be."""
    if len(frame) < wire.HEADER_BYTES:
        return False
    length = int.from_bytes(frame[: wire.HEADER_BYTES], "big")
    return length > wire.MAX_BODY or len(frame) >= wire.HEADER_BYTES + length


async def answered(path: Path, sent: bytes, *, hang_up: bool) -> bytes:
    """All that comes back until the worker ends the connection. A caller who hangs up says no more."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    received = bytearray()
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):  # it was refused before it was read
            writer.write(sent)
            if hang_up:
                writer.write_eof()
            while piece := await reader.read(65_536):
                received += piece
    writer.close()
    return bytes(received)


@FIXED_FRAMES
@given(frames())
def test_a_mutated_frame_is_answered_by_one_frame_or_by_none_where_nobody_waits(served: Served, sent: bytes):
    whole = complete(sent)
    received = served.runner.run(answered(served.path, sent, hang_up=not whole))
    if not whole:
        assert received == b""
    else:
        length = wire.body_length(received[: wire.HEADER_BYTES])
        assert len(received) == wire.HEADER_BYTES + length, "one frame and nothing behind it"
        outcome = Outcome(*wire.decode_answer(received[wire.HEADER_BYTES :]))
        judge(outcome, "ADD" if outcome.stdout else "DEL")
    served.serves()
