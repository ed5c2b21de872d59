"""The node worker's side of the socket: whose turn it is, how long it may last, what the caller is told."""

import asyncio
import contextlib
import gc
from pathlib import Path
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from cni.endpoint import serve
from cni.errors import CniError
from cni.request import CniRequest, Command
from cni.wishes import ANNOTATIONS
from schemas.errors import Code, ServiceError
from tests.cni_fakes import FakeHandler, ask, frame, hung_up, read_answer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cni.sock"


async def test_an_add_is_answered_with_its_result_and_a_del_with_nothing(path: Path) -> None:
    async with serve(path, FakeHandler()):
        status, document = await ask(path)
        assert (status, document["cniVersion"], document["ips"]) == (
            0,
            "1.0.0",
            [{"address": "10.20.0.5/24"}],
        )
        assert await ask(path, "DEL") == (0, None)


@pytest.mark.parametrize(
    ("error", "code", "details"),
    [
        (ServiceError(Code.EXHAUSTED, "full"), 104, "exhausted"),
        (ServiceError(Code.UNAVAILABLE, "broker away"), 11, "unavailable"),
        (CniError(8, "own netns", "x"), 8, "x"),
        (TimeoutError(), 11, "unavailable"),
        (ConnectionResetError(), 11, "unavailable"),
        (FileNotFoundError(2, "No such file or directory"), 100, "internal"),
        (RecursionError(), 100, "internal"),
    ],
)
async def test_whatever_a_handler_raises_becomes_one_error_object(
    path: Path, error: Exception, code: int, details: str
) -> None:
    async def fail(request: CniRequest) -> None:
        raise error

    async with serve(path, FakeHandler(fail)):
        for verb in ("ADD", "DEL"):
            status, document = await ask(path, verb)
            assert status == 1
            assert (document["cniVersion"], document["code"], document["details"]) == ("1.0.0", code, details)
            assert "no such file" not in document["msg"].lower()


async def test_a_cancellation_out_of_nowhere_is_try_again(path: Path) -> None:
    async def lose_connection(request: CniRequest) -> None:
        raise asyncio.CancelledError

    async with serve(path, FakeHandler(lose_connection)):
        status, document = await ask(path)
        assert (status, document["code"]) == (1, 11)
        assert "was stopped" in document["msg"]


async def test_a_call_is_logged_with_the_network_that_was_wished_for_and_what_it_got(path: Path) -> None:
    runtime = {ANNOTATIONS: {"moorage.io/network": "test"}}
    with capture_logs() as logs:
        async with serve(path, FakeHandler()):
            await ask(path, runtimeConfig=runtime)
            await ask(path, "DEL", runtimeConfig=runtime)
    assert [line["network"] for line in logs] == ["test", "test"]
    assert [line.get("address") for line in logs] == [["10.20.0.5"], None]


async def test_what_a_handler_notes_is_in_the_line_of_its_call_also_where_it_fails(path: Path) -> None:
    async def fail(request: CniRequest) -> None:
        request.notes["attachment_id"] = request.container_id * 2
        if request.command is Command.DEL:
            raise ServiceError(Code.EXHAUSTED, "full")

    with capture_logs() as logs:
        async with serve(path, FakeHandler(fail)):
            await ask(path, container="c1")
            await ask(path, "DEL", container="c2")
    assert [line["attachment_id"] for line in logs] == ["c1c1", "c2c2"]


async def test_every_answered_call_is_told_of_with_verb_code_and_seconds(path: Path) -> None:
    async def fail(request: CniRequest) -> None:
        if request.command is Command.DEL:
            raise ServiceError(Code.EXHAUSTED, "full")

    told: list[tuple[str | None, int, float]] = []
    async with serve(path, FakeHandler(fail), observe=lambda *call: told.append(call)):
        await ask(path)
        await ask(path, "DEL")
        await ask(path, "NONSENSE")
    assert [(verb, code) for verb, code, _ in told] == [("ADD", 0), ("DEL", 104), (None, 4)]
    assert all(0 < seconds < 60 for _, _, seconds in told)


async def test_a_call_is_logged_also_where_nobody_takes_its_answer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise ConnectionResetError

    monkeypatch.setattr("cni.endpoint.send", refuse)
    with capture_logs() as logs:
        async with serve(path, FakeHandler()):
            with contextlib.suppress(asyncio.IncompleteReadError):
                await ask(path)
    assert [(line["event"], line["request"]) for line in logs] == [("CNI call", "ADD")]


async def test_an_unforeseen_error_is_logged_once_with_its_traceback_and_a_business_no_without(
    path: Path,
) -> None:
    handler = FakeHandler()
    with capture_logs() as logs:
        async with serve(path, handler):
            for error in (KeyError("x"), ServiceError(Code.EXHAUSTED, "full")):

                async def fail(request: CniRequest, error: Exception = error) -> None:
                    raise error

                handler.work = fail
                await ask(path)
    assert [type(line["exc_info"]).__name__ for line in logs] == ["KeyError", "NoneType"]
    assert {line["container_id"] for line in logs} == {"c1"}


@pytest.mark.parametrize("verb", ["CHECK", "GC", "STATUS"])
async def test_the_other_verbs_print_nothing_where_all_is_well(path: Path, verb: str) -> None:
    handler = FakeHandler()
    async with serve(path, handler):
        assert await ask(path, verb, cniVersion="1.1.0") == (0, None)
    assert [seen.split()[:2] for seen in handler.seen] == [["begin", verb], ["end", verb]]


async def test_version_is_the_executables_own_to_answer(path: Path) -> None:
    async with serve(path, FakeHandler()):
        status, document = await ask(path, "VERSION", cniVersion="1.1.0")
    assert (status, document["code"]) == (1, 4)


@pytest.mark.parametrize(("verb", "code"), [("CHECK", 11), ("GC", 11), ("STATUS", 50)])
async def test_the_other_verbs_are_bounded_too(path: Path, verb: str, code: int) -> None:
    handler = FakeHandler(lambda request: asyncio.Event().wait())
    async with serve(path, handler, limits_s={Command(verb): 0.05}):
        status, document = await ask(path, verb, cniVersion="1.1.0")
    assert (status, document["code"]) == (1, code)


async def test_a_check_waits_for_the_containers_add_and_a_status_for_nobody(path: Path) -> None:
    go = asyncio.Event()

    async def work(request: CniRequest) -> None:
        if request.command is Command.ADD:
            await go.wait()

    handler = FakeHandler(work)
    async with serve(path, handler):
        adding = asyncio.create_task(ask(path))
        await handler.saw("begin ADD c1")
        checking = asyncio.create_task(ask(path, "CHECK"))
        assert await ask(path, "STATUS", cniVersion="1.1.0") == (0, None)
        assert "begin CHECK c1" not in handler.seen
        go.set()
        await asyncio.gather(adding, checking)
    assert handler.seen.index("end ADD c1") < handler.seen.index("begin CHECK c1")


async def test_calls_of_one_container_take_turns_in_the_order_they_came(path: Path) -> None:
    go = asyncio.Event()
    handler = FakeHandler(lambda request: go.wait())
    async with serve(path, handler):
        first = asyncio.create_task(ask(path, "ADD"))
        await handler.saw("begin ADD c1")
        second = asyncio.create_task(ask(path, "DEL"))
        other = asyncio.create_task(ask(path, "ADD", "c2"))
        await handler.saw("begin ADD c2")
        assert "begin DEL c1" not in handler.seen
        go.set()
        await asyncio.gather(first, second, other)
        turns = [what for what in handler.seen if what.endswith("c1")]
        assert turns == ["begin ADD c1", "end ADD c1", "begin DEL c1", "end DEL c1"]


async def test_no_lock_is_left_of_a_container_that_is_done(path: Path) -> None:
    def locks() -> int:
        gc.collect()
        return sum(type(thing) is asyncio.Lock for thing in gc.get_objects())

    async with serve(path, FakeHandler()):
        before = locks()
        await asyncio.gather(*(ask(path, "ADD", f"c{i % 5}") for i in range(20)))
        assert locks() == before


async def test_no_more_calls_are_handled_at_a_time_than_allowed(path: Path) -> None:
    running = most = 0

    async def count(request: CniRequest) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1

    async with serve(path, FakeHandler(count), max_concurrent=3):
        answers = await asyncio.gather(*(ask(path, "ADD", f"c{i}") for i in range(20)))
    assert [status for status, _ in answers] == [0] * 20
    assert most == 3


async def test_adds_that_wait_for_a_broker_do_not_keep_dels_waiting(path: Path) -> None:
    go = asyncio.Event()

    async def adds_wait(request: CniRequest) -> None:
        if request.command is Command.ADD:
            await go.wait()

    handler = FakeHandler(adds_wait)
    async with serve(path, handler, max_concurrent=1):
        waiting = [asyncio.create_task(ask(path, "ADD", f"c{i}")) for i in range(3)]
        await handler.saw("begin ADD c0")
        assert await ask(path, "DEL", "c9") == (0, None)
        go.set()
        await asyncio.gather(*waiting)


async def test_a_flood_of_connections_is_turned_away_with_try_again(path: Path) -> None:
    go = asyncio.Event()
    handler = FakeHandler(lambda request: go.wait())
    async with serve(path, handler, max_concurrent=1):
        waiting = [asyncio.create_task(ask(path, "ADD", f"c{i}")) for i in range(9)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        assert [task.result()[1]["code"] for task in done] == [11]
        go.set()
        answers = await asyncio.gather(*waiting)
        assert sorted(status for status, _ in answers) == [0] * 8 + [1]


async def test_a_call_whose_time_is_over_is_cancelled_unwound_and_try_again(path: Path) -> None:
    unwound = False

    async def hang(request: CniRequest) -> None:
        nonlocal unwound
        if request.command is Command.DEL:
            return
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            unwound = True

    handler = FakeHandler(hang)
    async with serve(path, handler, limits_s={Command.ADD: 0.2, Command.DEL: 5}):
        status, document = await ask(path)
        assert (status, document["code"]) == (1, 11)
        assert "did not end within 0.2 s" in document["msg"]
        assert unwound
        assert await ask(path, "DEL") == (0, None)


async def test_the_time_in_the_queue_counts(path: Path) -> None:
    go = asyncio.Event()
    handler = FakeHandler(lambda request: go.wait())
    async with serve(path, handler, limits_s={Command.ADD: 5, Command.DEL: 0.1}):
        first = asyncio.create_task(ask(path))
        await handler.saw("begin ADD c1")
        assert (await ask(path, "DEL"))[1]["code"] == 11
        go.set()
        assert (await first)[0] == 0
        assert "begin DEL c1" not in handler.seen


async def test_the_time_a_call_takes_to_arrive_counts(path: Path) -> None:
    handler = FakeHandler(lambda request: asyncio.sleep(0.03))
    async with serve(path, handler, limits_s={Command.DEL: 0.05}):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(frame("DEL")[:-1])
        await asyncio.sleep(0.1)
        writer.write(frame("DEL")[-1:])
        _, document = await read_answer(reader)
        writer.close()
    assert document["code"] == 11
    assert handler.seen == ["begin DEL c1", "cancelled DEL c1"]


async def test_a_handler_that_does_not_let_go_keeps_its_turn_but_not_its_caller(path: Path) -> None:
    go = asyncio.Event()

    async def stubborn(request: CniRequest) -> None:
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()

    handler = FakeHandler(stubborn)
    async with serve(path, handler, limits_s={Command.ADD: 0.1, Command.DEL: 5}):
        assert (await ask(path))[1]["code"] == 11
        late = asyncio.create_task(ask(path, "DEL"))
        await ask(path, "ADD", "c2")  # long enough for the DEL to have arrived
        assert "begin DEL c1" not in handler.seen
        go.set()
        assert await late == (0, None)
        assert handler.seen.index("end ADD c1") < handler.seen.index("begin DEL c1")


async def test_a_caller_that_leaves_does_not_disturb_the_work_it_began(path: Path) -> None:
    go = asyncio.Event()
    handler = FakeHandler(lambda request: go.wait())
    async with serve(path, handler):
        async with hung_up(path, frame()):
            await handler.saw("begin ADD c1")
        removal = asyncio.create_task(ask(path, "DEL"))
        go.set()
        assert await removal == (0, None)
        assert handler.seen == ["begin ADD c1", "end ADD c1", "begin DEL c1", "end DEL c1"]


async def test_an_add_nobody_waits_for_is_not_begun_but_a_del_is_done(path: Path) -> None:
    go = asyncio.Event()
    handler = FakeHandler(lambda request: go.wait())
    async with serve(path, handler):
        first = asyncio.create_task(ask(path, "DEL"))
        await handler.saw("begin DEL c1")
        async with hung_up(path, frame("ADD")), hung_up(path, frame("DEL")):
            pass
        go.set()
        await first
        assert await ask(path, "DEL", "c1") == (0, None)
        assert handler.seen == ["begin DEL c1", "end DEL c1"] * 3


async def test_running_calls_end_before_the_endpoint_does(path: Path) -> None:
    go = asyncio.Event()
    handler = FakeHandler(lambda request: go.wait())
    async with serve(path, handler):
        running = asyncio.create_task(ask(path))
        await handler.saw("begin ADD c1")
        asyncio.get_running_loop().call_later(0.05, go.set)
    assert (await running)[0] == 0


async def test_a_call_that_hangs_when_the_worker_stops_is_cancelled_and_told_to_try_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cni.endpoint.TRANSFER_S", 0.05)
    handler = FakeHandler(lambda request: asyncio.Event().wait())
    async with serve(path, handler):
        running = asyncio.create_task(ask(path))
        await handler.saw("begin ADD c1")
    status, document = await running
    assert (status, document["code"]) == (1, 11)
    assert "was stopped" in document["msg"]
    assert handler.seen == ["begin ADD c1", "cancelled ADD c1"]


def test_uvloop_carries_the_longest_frames_too(path: Path) -> None:
    async def run() -> tuple[int, Any]:
        async with serve(path, FakeHandler()):
            return await ask(path, prevResult={"big": "x" * 1_000_000})

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status, document = runner.run(run())
    assert (status, len(document["big"])) == (0, 1_000_000)
