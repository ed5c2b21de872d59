"""What a runtime gets from the shim on standard output and as exit status, call by call."""

import asyncio
import json
import os
import signal
import struct
import subprocess
from pathlib import Path

import pytest

from cni import wire
from cni.endpoint import serve
from cni.request import CniRequest
from schemas.errors import Code, ServiceError
from tests.acceptance.shim_process import (
    ENV,
    OK_ANSWER,
    STDIN,
    VERSIONS,
    Outcome,
    build,
    ending,
    run,
    start,
    worker,
)
from tests.cni_fakes import CONF, FakeHandler

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("shim"), "-std=c11")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cni.sock"


def test_the_shim_needs_no_loader_and_no_library(shim: Path) -> None:
    image = shim.read_bytes()
    (offset,) = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    kinds = [struct.unpack_from("<I", image, offset + i * size)[0] for i in range(count)]
    assert image[:5] == b"\x7fELF\x02"
    assert 3 not in kinds  # PT_INTERP


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_add_prints_the_result_in_the_asked_version(shim: Path, path: Path, version: str) -> None:
    async with serve(path, FakeHandler()):
        outcome = await run(shim, path, json.dumps(CONF | {"cniVersion": version}).encode())
    assert outcome.status == 0
    assert outcome.document["cniVersion"] == version
    assert outcome.document["ips"][0]["address"] == "10.20.0.5/24"
    assert ("version" in outcome.document["ips"][0]) == (version in {"0.3.1", "0.4.0"})


async def test_a_del_prints_nothing_and_needs_neither_netns_nor_arguments(shim: Path, path: Path) -> None:
    handler = FakeHandler()
    env = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0"}
    async with serve(path, handler):
        assert await ending(await start(shim, path, env)) == Outcome(0, b"")
    assert handler.seen == ["begin DEL c1", "end DEL c1"]


async def test_a_refusal_keeps_its_code_to_the_runtime(shim: Path, path: Path) -> None:
    async def refuse(request: CniRequest) -> None:
        raise ServiceError(Code.OWNER_FORBIDDEN, f"pool web is not for {request.owner}: ask its team")

    async with serve(path, FakeHandler(refuse)):
        outcome = await run(shim, path)
    assert outcome.failed(103) == "pool web is not for shop/web-0: ask its team"
    assert outcome.document["details"] == "owner_forbidden"
    assert outcome.document["cniVersion"] == "1.0.0"


@pytest.mark.parametrize("name", ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"])
async def test_a_missing_variable_is_code_4_and_named(shim: Path, path: Path, name: str) -> None:
    async with serve(path, FakeHandler()):
        outcome = await ending(await start(shim, path, {k: v for k, v in ENV.items() if k != name}))
    assert name in outcome.failed(4)


@pytest.mark.parametrize(
    ("stdin", "code"), [(b"", 6), (b"{", 6), (b"{}", 1), (b'{"cniVersion":"1.0.0","name":"x"}', 7)]
)
async def test_a_bad_configuration_has_the_specifications_code(
    shim: Path, path: Path, stdin: bytes, code: int
) -> None:
    async with serve(path, FakeHandler()):
        (await run(shim, path, stdin)).failed(code)


@pytest.mark.parametrize(
    ("stdin", "version"),
    [
        *((f'{{"cniVersion":"{version}"}}'.encode(), version) for version in VERSIONS),
        (b"", "1.1.0"),
        (b"nonsense", "1.1.0"),
        (b'{"cniVersion" :\n "0.4.0", "name": "x"}', "0.4.0"),
        (b'{"plugins":[{"cniVersion":"0.3.1"}],"name":"cniVersion","cniVersion":"1.0.0"}', "1.0.0"),
        (b'{"name":"a\\"cniVersion\\":\\"9.9.9\\"","prevResult":{"cniVersion":"0.3.1"}}', "1.1.0"),
        (b'{"name":"\\"","cniVersion":"1.0.0"}', "1.0.0"),
        (b'{"cniVersion":"1.0"}', "1.1.0"),
        (b'{"cniVersion":"1.0.0\\""}', "1.1.0"),
        (b'{"cniVersion":"1.0.0', "1.1.0"),
        (b'{"cniVersion":"1111.0.0"}', "1.1.0"),
        (b'{"cniVersion\\', "1.1.0"),
        pytest.param(b"{" * 2_000_000, "1.1.0", id="endless"),
    ],
)
async def test_version_is_answered_without_a_worker(
    shim: Path, path: Path, stdin: bytes, version: str
) -> None:
    outcome = await run(shim, path, stdin, CNI_COMMAND="VERSION", CNI_PATH="dummy", CNI_NETNS="dummy")
    assert outcome.status == 0
    assert outcome.document == {"cniVersion": version, "supportedVersions": VERSIONS}


async def test_the_answer_and_its_exit_status_pass_unchanged_however_they_are_cut(
    shim: Path, path: Path
) -> None:
    answer = wire.encode_answer(7, b'{"a":\xff\0}')
    async with worker(path, *(answer[i : i + 1] for i in range(len(answer)))):
        assert await run(shim, path) == Outcome(7, b'{"a":\xff\0}')


async def test_the_longest_answer_passes_to_a_reader_that_is_slow(shim: Path, path: Path) -> None:
    stdout = bytes(range(1, 256)) * 4112
    async with worker(path, wire.encode_answer(0, stdout)) as calls:
        process = await start(shim, path)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(STDIN)
        process.stdin.close()
        async with asyncio.timeout(10):
            await calls.arrived.wait()  # what asyncio reads ahead is less than what the shim has to say
            assert await process.stdout.read() == stdout
            assert await process.wait() == 0


async def test_only_cni_variables_and_the_whole_input_are_sent(shim: Path, path: Path) -> None:
    odd: dict[str, str | bytes] = {"CNI_ODD": b"\xff=\n", "SECRET": "x", "XCNI_Y": "x"}
    async with worker(path, OK_ANSWER) as calls:
        outcome = await run(shim, path, b"\0\1{}\xff", **odd)
        assert (outcome.status, outcome.document) == (0, {"cniVersion": "1.0.0"})
    env, stdin = wire.decode_call(calls[0])
    assert env == {**ENV, "CNI_ODD": "\udcff=\n"}
    assert stdin == b"\0\1{}\xff"


async def test_input_that_comes_in_pieces_is_put_together(shim: Path, path: Path) -> None:
    async with worker(path, OK_ANSWER) as calls:
        process = await start(shim, path)
        assert process.stdin is not None
        for i in range(len(STDIN)):
            process.stdin.write(STDIN[i : i + 1])
            await process.stdin.drain()
        assert (await ending(process, b"")).status == 0
    assert wire.decode_call(calls[0])[1] == STDIN


async def test_input_up_to_the_frames_limit_passes_and_one_byte_more_is_code_7(
    shim: Path, path: Path
) -> None:
    room = wire.MAX_BODY - (len(wire.encode_call(ENV, b"")) - 4)
    async with worker(path, OK_ANSWER) as calls:
        assert (await run(shim, path, b" " * room)).status == 0
        assert len(calls[0]) == wire.MAX_BODY
        for excess in (1, 5_000_000):
            said = (await run(shim, path, b" " * (room + excess))).failed(7)
            assert "1 MiB" in said
        assert len(calls) == 1


async def test_variables_longer_than_a_frame_are_code_4(shim: Path, path: Path) -> None:
    long: dict[str, str | bytes] = {f"CNI_X{i}": "x" * 120_000 for i in range(9)}
    async with worker(path, OK_ANSWER) as calls:
        assert "CNI_" in (await run(shim, path, STDIN, **long)).failed(4)
    assert calls == []


async def test_a_stopped_and_continued_shim_goes_on(shim: Path, path: Path) -> None:
    go = asyncio.Event()
    handler = FakeHandler(lambda request: go.wait())
    async with serve(path, handler):
        process = await start(shim, path)
        outcome = asyncio.create_task(ending(process))
        await handler.saw("begin ADD c1")
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGCONT)
        go.set()
        assert (await outcome).status == 0


async def test_a_runtime_that_does_not_read_ends_the_shim_by_status_not_by_signal(
    shim: Path, path: Path
) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    async with worker(path, OK_ANSWER):
        process = await asyncio.create_subprocess_exec(
            shim,
            env={**ENV, "MOORAGE_CNI_SOCKET": str(path)},
            stdin=subprocess.PIPE,
            stdout=write_end,
        )
        os.close(write_end)
        await process.communicate(STDIN)
    assert process.returncode == 1


async def test_closed_descriptors_do_not_become_the_socket(shim: Path, path: Path) -> None:
    async with worker(path, OK_ANSWER) as calls:
        for redirection, status in (("<&-", 0), (">&-", 0), ("<&- >&- 2>&-", 0)):
            process = await asyncio.create_subprocess_exec(
                "/bin/sh",
                "-c",
                f'"$0" {redirection}',
                shim,
                env={**ENV, "MOORAGE_CNI_SOCKET": str(path)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert (await ending(process)).status == status
    assert [wire.decode_call(call)[1] for call in calls] == [b"", STDIN, b""]
    assert calls.excess == b""


async def test_forty_containers_are_served_side_by_side(shim: Path, path: Path) -> None:
    begun = 0
    all_there = asyncio.Event()

    async def wait_for_all(request: CniRequest) -> None:
        nonlocal begun
        begun += 1
        if begun == 40:
            all_there.set()
        await all_there.wait()

    async with serve(path, FakeHandler(wait_for_all)):
        outcomes = await asyncio.gather(*(run(shim, path, CNI_CONTAINERID=f"c{i}") for i in range(40)))
    assert [outcome.status for outcome in outcomes] == [0] * 40


async def test_a_killed_shims_add_ends_before_the_runtimes_del_begins(shim: Path, path: Path) -> None:
    go = asyncio.Event()
    handler = FakeHandler(lambda request: go.wait())
    async with serve(path, handler):
        process = await start(shim, path)
        killed = asyncio.create_task(ending(process))
        await handler.saw("begin ADD c1")
        process.kill()
        assert (await killed).status == -signal.SIGKILL
        removal = asyncio.create_task(run(shim, path, CNI_COMMAND="DEL"))
        go.set()
        assert await removal == Outcome(0, b"")
    assert handler.seen == ["begin ADD c1", "end ADD c1", "begin DEL c1", "end DEL c1"]


async def test_a_restarted_worker_is_reached_by_the_next_call(shim: Path, path: Path) -> None:
    async with serve(path, FakeHandler()):
        assert (await run(shim, path)).status == 0
    (await run(shim, path)).failed(11)
    async with serve(path, FakeHandler()):
        assert (await run(shim, path)).status == 0
