"""Many dead letters: how long the first page of a list takes, and a replay of all of them, whole commands."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from uuid import uuid4

from bench.machine import ROOT, Machine, Place, Size, on_uvloop
from bench.results import Figure
from broker.codec import CONTENT_TYPE
from broker.dead_letters import header
from broker.dead_letters.post import Post, Posted, post
from broker.frames import Outgoing
from broker.topology import DEAD, routing_key
from schemas.address import AddressRelease

NETWORK = "bench"
_AT_ONCE = 500
_FEW = 1_000
_LISTS = 3
FIGURES = (
    Figure("dead_list_s", "first page of `moorage dead list` with 100,000 letters, s", at_most=2),
    Figure("dead_scan_s", "`moorage dead list --summary --all` of them, s"),
    Figure("dead_replay_s", "`moorage dead replay --all` of them, until the last is sent, s"),
    Figure("dead_replay_rss_mb", "peak memory of that command, MB"),
    Figure("dead_replay_rss_growth_mb", "over that of a replay of 1,000, MB", at_most=10),
)


@dataclass(frozen=True)
class _Ended:
    """A command that ended well."""

    took_s: float
    peak_mb: float
    answer: dict[str, object]


def run(machine: Machine) -> dict[str, float]:
    """List and replay 100,000 letters, with a real allocator.

    Raises AssertionError where one is not replayed.
    """
    count = 5_000 if machine.size is Size.QUICK else 100_000
    place = machine.place("dead-letters")
    with machine.allocator(place, machine.database("dead_letters")):
        on_uvloop(_bury(place, _FEW))
        few = _moorage(place, "replay", "--all")
        machine.tell(f"{count:,} dead letters")
        on_uvloop(_bury(place, count))
        lists = [_moorage(place, "list") for _ in range(_LISTS)]
        scan = _moorage(place, "list", "--summary", "--all")
        assert scan.answer["matching"] == count, scan.answer
        machine.tell("all of them replayed")
        replayed = _moorage(place, "replay", "--all")
    assert replayed.answer["replayed"] == count, replayed.answer
    return {
        "dead_list_s": sorted(one.took_s for one in lists)[_LISTS // 2],
        "dead_scan_s": scan.took_s,
        "dead_replay_s": replayed.took_s,
        "dead_replay_rss_mb": replayed.peak_mb,
        "dead_replay_rss_growth_mb": replayed.peak_mb - few.peak_mb,
    }


async def _bury(place: Place, count: int) -> None:
    async with post(place.operator) as out:
        for start in range(0, count, _AT_ONCE):
            fates = await out.send([_letter(out) for _ in range(min(_AT_ONCE, count - start))])
            assert not any(fates), "RabbitMQ did not take a letter"


def _letter(out: Post) -> Posted:
    """A release that nobody could serve once, as the allocator would have buried it."""
    request = AddressRelease(
        network=NETWORK, node="bench-1", container_id=uuid4().hex, ifname="eth0", attachment_id=uuid4()
    )
    story: dict[str, str | int] = {
        header.REASON: "the allocator failed on this request",
        header.CODE: "internal",
        header.SENDER: "node.bench-1",
        header.ROUTING_KEY: routing_key(request),
        header.FIRST_DEATH: "2026-03-01T14:05:00.000+00:00",
        header.LAST_DEATH: "2026-03-01T14:05:00.000+00:00",
        header.DEATHS: 1,
        "schema_version": request.VERSION,
    }
    message = Outgoing(
        request.model_dump_json(exclude_none=True).encode(),
        content_type=CONTENT_TYPE,
        headers=story,
        correlation_id=uuid4().hex,
        reply_to=None,
        message_id=uuid4().hex,
        type=request.NAME,
        user_id=out.user,
    )
    return Posted(DEAD, "", message)


def _moorage(place: Place, *command: str) -> _Ended:
    """Run `moorage dead`; how long it took from its start to its end."""
    env = {**os.environ, "MOORAGE_AMQP_URL": place.operator}
    argv = [sys.executable, "-m", "compose.cli", "dead", *command, "--output", "json"]
    began = time.monotonic()
    with subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        answer = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, answer.decode()
    return _Ended(time.monotonic() - began, usage.ru_maxrss / 1024, json.loads(answer))
