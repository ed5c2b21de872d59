"""What the shim says alone: the node worker is absent, slow or talks nonsense, or the input does not end."""

import asyncio
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from cni import wire
from tests.acceptance.shim_process import (
    ENV,
    OK_ANSWER,
    SOURCE,
    VERSIONS,
    Outcome,
    build,
    ending,
    run,
    start,
    worker,
)

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("shim"), "-std=c11")


@pytest.fixture(scope="module")
def hasty_shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim with seconds of 20 ms: ADD 1.2 s, DEL 0.4 s, VERSION 0.1 s, STATUS 20 ms."""
    return build(tmp_path_factory.mktemp("hasty"), "-DSECOND=20")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cni.sock"


@pytest.mark.parametrize(
    ("verb", "code"), [("ADD", 11), ("DEL", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50), ("", 11)]
)
async def test_a_worker_that_is_not_there_is_named_with_what_to_start(
    shim: Path, path: Path, verb: str, code: int
) -> None:
    absent = (await run(shim, path, CNI_COMMAND=verb)).failed(code)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
        deaf = (await run(shim, path, CNI_COMMAND=verb)).failed(code)
    plain_file = (await run(shim, SOURCE, CNI_COMMAND=verb)).failed(code)
    for said, socket_path, reason in (
        (absent, path, "there is no socket"),
        (deaf, path, "nobody listens on it"),
        (plain_file, SOURCE, "nobody listens on it"),
    ):
        assert str(socket_path) in said
        assert reason in said
        assert "start it with 'moorage node'" in said


async def test_the_error_is_in_the_asked_version(shim: Path, path: Path) -> None:
    assert (await run(shim, path, b'{"cniVersion":"0.3.1"}')).document["cniVersion"] == "0.3.1"


async def test_without_a_setting_the_default_socket_is_tried(shim: Path) -> None:
    if os.path.exists("/run/moorage/cni.sock"):  # noqa: ASYNC240, PTH110
        pytest.skip("a node worker of this machine may answer at the default path")
    for env in ({}, {"MOORAGE_CNI_SOCKET": ""}):
        process = await asyncio.create_subprocess_exec(
            shim, env={"CNI_COMMAND": "STATUS"} | env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert "/run/moorage/cni.sock" in (await ending(process)).failed(50)


@pytest.mark.parametrize(
    ("odd", "shown"),
    [
        (b'/x"y\\z\n', '/x"y\\z\n'),
        (b"/\xc3\xa9\xff", "/\xc3\xa9\xff"),
        (b"/NOT found/x", "the path in MOORAGE_CNI_SOCKET"),
        (b"/no such File or directory", "the path in MOORAGE_CNI_SOCKET"),
        (b"/" + b"x" * 106, "there is no socket"),
        (b"/" + b"x" * 107, "longer than 107 bytes"),
        pytest.param(b"/" + b"\x01" * 100_000, "longer than 107 bytes", id="endless"),
    ],
)
async def test_an_odd_socket_path_is_shown_and_harms_nothing(shim: Path, odd: bytes, shown: str) -> None:
    assert shown in (await run(shim, odd)).failed(11)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        OK_ANSWER[:3],
        OK_ANSWER[:4],
        OK_ANSWER[:-1],
        b"\0\0\0\0",
        b"\x00\x10\x00\x01\0{}",
        pytest.param(b"\x00\x10\x00\x01" + b"\0" * (wire.MAX_BODY + 1), id="one byte too long"),
        pytest.param(b"\xff\xff\xff\xff" + b"\0" * (2 * wire.MAX_BODY), id="far too long"),
        wire.encode_answer(1, b""),
    ],
)
@pytest.mark.parametrize(("verb", "code"), [("ADD", 11), ("STATUS", 50)])
async def test_a_worker_that_hangs_up_or_talks_nonsense_is_try_again(
    shim: Path, path: Path, answer: bytes, verb: str, code: int
) -> None:
    async with worker(path, answer):
        said = (await run(shim, path, CNI_COMMAND=verb)).failed(code)
    assert "hung up without a whole answer" in said
    assert str(path) in said


async def test_an_empty_answer_to_a_call_without_variables_is_try_again(shim: Path, path: Path) -> None:
    async with worker(path, b"\0\0\0\0"):
        assert "hung up" in (await ending(await start(shim, path, {}))).failed(11)


async def test_input_that_does_not_end_is_an_io_failure(hasty_shim: Path, path: Path) -> None:
    process = await start(hasty_shim, path, ENV | {"CNI_COMMAND": "DEL"})
    assert process.stdout is not None
    async with asyncio.timeout(5):
        stdout = await process.stdout.read()
    assert "standard input did not end within 20 s" in Outcome(await process.wait(), stdout).failed(5)


async def test_input_that_cannot_be_read_is_an_io_failure_of_another_name(shim: Path, path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    process = await asyncio.create_subprocess_exec(
        shim, env={**ENV, "MOORAGE_CNI_SOCKET": str(path)}, stdin=folder, stdout=subprocess.PIPE
    )
    os.close(folder)
    async with asyncio.timeout(5):
        stdout, _ = await process.communicate()
    assert Outcome(process.returncode, stdout).failed(5) == "standard input cannot be read"


@pytest.mark.parametrize(
    ("verb", "code", "limit"), [("ADD", 11, 1.2), ("DEL", 11, 0.4), ("GC", 11, 0.5), ("CHECK", 11, 0.4)]
)
async def test_a_worker_that_is_too_slow_is_given_up_in_time(
    hasty_shim: Path, path: Path, verb: str, code: int, limit: float
) -> None:
    async with worker(path, OK_ANSWER[:-2], then_hang=True):
        began = time.monotonic()
        said = (await run(hasty_shim, path, CNI_COMMAND=verb)).failed(code)
        assert limit <= time.monotonic() - began < limit + 2
    assert "gave no answer within" in said
    assert str(path) in said


async def test_a_status_waits_one_second(shim: Path, path: Path) -> None:
    async with worker(path, then_hang=True):
        began = time.monotonic()
        said = (await run(shim, path, CNI_COMMAND="STATUS")).failed(50)
        assert 1 <= time.monotonic() - began < 3
    assert "within 1 s" in said


async def test_a_worker_that_does_not_take_calls_is_given_up_in_time(hasty_shim: Path, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as frozen:
        frozen.bind(str(path))
        frozen.listen(0)  # room for one call in the queue, which the first one keeps
        reading = run(hasty_shim, path, b" " * 1_000_000, CNI_COMMAND="DEL")
        assert "gave no answer" in (await reading).failed(11)
        queueing = run(hasty_shim, path, CNI_COMMAND="DEL")
        assert "it takes no more calls" in (await queueing).failed(11)


async def test_version_does_not_wait_forever_for_a_configuration(hasty_shim: Path, path: Path) -> None:
    process = await start(hasty_shim, path, {"CNI_COMMAND": "VERSION"})
    assert process.stdout is not None
    async with asyncio.timeout(5):
        stdout = await process.stdout.read()
    assert Outcome(await process.wait(), stdout).document["supportedVersions"] == VERSIONS
