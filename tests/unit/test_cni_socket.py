"""The socket under the endpoint: its file, who may call, and callers who break the rules."""

import asyncio
import contextlib
import json
import os
import socket
import stat
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cni import exchange, wire
from cni.endpoint import serve
from cni.listening_socket import listen
from tests.cni_fakes import CONF, FakeHandler, ask, exchange_frames, frame, hung_up, read_answer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cni.sock"


def modes_beside(path: Path) -> dict[Path, int]:
    return {file: file.lstat().st_mode for file in path.parent.iterdir()}


async def test_a_user_who_is_not_allowed_is_told_so(path: Path) -> None:
    handler = FakeHandler()
    async with serve(path, handler, allowed_uids=frozenset({4_000_000})):
        status, document = await ask(path)
        assert (status, document["code"], document["details"]) == (1, 131, "sender_forbidden")
    assert handler.seen == []


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\xff\xff\xff\xff", 7),
        (b"\x00\x10\x00\x01", 7),
        (b"\x00\x00\x00\x00", 6),
        (b"\x00\x00\x00\x03abc", 6),
        (b"\x00\x00\x00\x01\x00", 4),
        (b"\x00\x00\x00\x07A=\xff\0\0{}", 4),
    ],
)
async def test_a_broken_frame_is_one_error_object_and_the_worker_goes_on(
    path: Path, sent: bytes, code: int
) -> None:
    async with serve(path, FakeHandler()):
        status, document = await exchange_frames(path, sent)
        assert (status, document["code"]) == (1, code)
        assert (await ask(path))[0] == 0


async def test_a_caller_that_leaves_in_the_middle_of_a_frame_harms_nobody(path: Path) -> None:
    whole = frame()
    async with serve(path, FakeHandler()):
        for end in (0, 3, 4, 10, len(whole) - 1):
            async with hung_up(path, whole[:end]):
                pass
        assert (await ask(path))[0] == 0


async def test_a_call_that_does_not_arrive_in_time_is_an_io_failure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "TRANSFER_S", 0.1)
    async with serve(path, FakeHandler()):
        status, document = await exchange_frames(path, frame()[:-1])
        assert (status, document["code"]) == (1, 5)


async def test_a_call_that_came_while_the_worker_stood_still_is_served(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "TRANSFER_S", 0.1)
    async with serve(path, FakeHandler()):
        reader, writer = await asyncio.open_unix_connection(str(path))
        for _ in range(20):  # the server waits for the call by now
            await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251  nothing goes on in this process
        os.write(writer.get_extra_info("socket").fileno(), frame())
        status, _ = await read_answer(reader)
        writer.close()
    assert status == 0


async def test_an_answer_is_sent_to_its_last_byte_to_a_reader_that_is_slow() -> None:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    _, writer = await asyncio.open_connection(sock=ours)

    async def read_slowly() -> int:
        got = 0
        while piece := await loop.sock_recv(theirs, 1000):
            got += len(piece)
        return got

    async with asyncio.timeout(5):
        reading = asyncio.create_task(read_slowly())
        await exchange.send(writer, b"x" * 200_000)
        writer.transport.abort()
        assert await reading == 200_000
    theirs.close()


async def test_a_caller_that_does_not_read_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "TRANSFER_S", 0.1)
    handler = FakeHandler()
    with capture_logs() as logs:
        async with contextlib.AsyncExitStack() as caller, asyncio.timeout(4), serve(path, handler):
            await caller.enter_async_context(hung_up(path, frame(prevResult={"big": "x" * 900_000})))
            await handler.saw("end ADD c1")
            assert (await ask(path, "DEL"))[0] == 0
    assert "a CNI answer reached nobody" in [line["event"] for line in logs]


async def test_an_answer_longer_than_a_frame_is_an_error_and_not_a_silence(path: Path) -> None:
    async with serve(path, FakeHandler()):
        status, document = await exchange_frames(
            path,
            wire.encode_call(
                {
                    "CNI_COMMAND": "ADD",
                    "CNI_CONTAINERID": "c1",
                    "CNI_NETNS": "/x",
                    "CNI_IFNAME": "eth0",
                },
                json.dumps(CONF | {"prevResult": {"big": "é" * 400_000}}, ensure_ascii=False).encode(),
            ),
        )
        assert (status, document["code"]) == (1, 100)


async def test_the_socket_is_roots_alone_and_gone_afterwards(path: Path) -> None:
    async with serve(path, FakeHandler()):
        assert modes_beside(path) == {path: stat.S_IFSOCK | 0o600}
    assert modes_beside(path) == {}


async def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "run" / "moorage" / "cni.sock"
    async with serve(path, FakeHandler()):
        assert (await ask(path))[0] == 0


async def test_a_stale_socket_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with serve(path, FakeHandler()):
        assert (await ask(path))[0] == 0


async def test_a_successor_takes_over_and_keeps_its_socket_when_the_old_one_ends(path: Path) -> None:
    old, new = FakeHandler(), FakeHandler()
    async with serve(path, new):
        pass
    async with contextlib.AsyncExitStack() as second:
        async with serve(path, old):
            await second.enter_async_context(serve(path, new))
            assert (await ask(path))[0] == 0
        assert (await ask(path, "DEL"))[0] == 0
    assert old.seen == []
    assert len(new.seen) == 4
    assert modes_beside(path) == {}


def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(ValueError, match="not a socket"):
        listen(path)
    assert path.read_text() == "precious"
    assert list(path.parent.iterdir()) == [path]


async def test_a_path_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    room = 107 - len(str(tmp_path)) - 1
    fits, too_long = tmp_path / ("s" * room), tmp_path / ("s" * (room + 1))
    async with serve(fits, FakeHandler()):
        assert (await ask(fits))[0] == 0
    with pytest.raises(ValueError, match="107 bytes") as caught:
        async with serve(too_long, FakeHandler()):
            pass
    assert str(too_long) in str(caught.value)
