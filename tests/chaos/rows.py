"""Each fault that must have been tried, and the tests that try it."""

from collections.abc import Iterable, Mapping

import pytest

_HERE = "tests/chaos/"
_KILLED, _DATABASE, _BROKER = "test_allocator_killed.py", "test_database.py", "test_broker.py"
_NODE, _AWAY, _HOSTILE = "test_node.py", "test_node_away.py", "test_hostile_messages.py"

ROWS: Mapping[str, tuple[str, ...]] = {
    "allocator killed after COMMIT before ack": (
        f"{_KILLED}::test_an_allocator_killed_after_its_reply_before_its_ack",
    ),
    "allocator killed before COMMIT": (f"{_KILLED}::test_an_allocator_killed_before_commit",),
    "allocator killed after COMMIT before reply": (
        f"{_KILLED}::test_an_allocator_killed_after_commit_before_its_reply",
    ),
    "connection cut inside COMMIT": (f"{_DATABASE}::test_a_connection_cut_inside_commit",),
    "database restarted": (
        f"{_DATABASE}::test_a_database_that_is_killed_and_restarted",
        f"{_DATABASE}::test_a_database_that_falls_silent",
    ),
    "database failed over": (f"{_DATABASE}::test_a_database_that_fails_over_to_its_replica_inside_a_commit",),
    "database read-only": (f"{_DATABASE}::test_a_database_that_takes_no_writes",),
    "deadlock storm": (f"{_DATABASE}::test_a_deadlock_storm",),
    "broker restarted in mid-RPC": (f"{_BROKER}::test_a_broker_restarted_in_mid_rpc",),
    "publisher blocked by a broker alarm": (f"{_BROKER}::test_a_publisher_blocked_by_a_broker_alarm",),
    "consumer cancelled by the server": (f"{_BROKER}::test_a_consumer_cancelled_by_the_server",),
    "duplicate delivery": (f"{_BROKER}::test_a_duplicate_delivery",),
    "release that overtakes its allocate": (f"{_BROKER}::test_a_release_that_overtakes_its_allocate",),
    "reply after the caller's timeout": (f"{_BROKER}::test_a_reply_after_the_callers_timeout",),
    "node worker killed after wiring before its reply": (
        f"{_NODE}::test_a_node_worker_killed_after_wiring_before_its_reply",
        f"{_NODE}::test_a_node_worker_killed_between_the_allocators_answer_and_wiring",
    ),
    "shim killed in mid-ADD": (f"{_NODE}::test_a_shim_killed_in_mid_add",),
    "stale DEL after a new sandbox": (f"{_NODE}::test_a_stale_del_after_a_new_sandbox",),
    "DEL with empty netns, repeated": (f"{_NODE}::test_a_del_with_empty_netns_repeated",),
    "DEL while the broker is away": (f"{_BROKER}::test_a_del_while_the_broker_is_away",),
    "journal's disk full": (f"{_NODE}::test_a_journals_disk_that_is_full",),
    "node cut off and pod re-created elsewhere": (
        f"{_AWAY}::test_a_node_cut_off_and_its_pod_created_again_elsewhere",
    ),
    "every allocator down for longer than node_lost_after": (
        f"{_AWAY}::test_all_allocators_down_for_longer_than_a_node_may_be_silent",
    ),
    "malformed, unknown, oversized, wrong partition, type unlike its key, body's node not the sender": (
        f"{_HOSTILE}::test_a_message_that_nobody_can_serve",
        f"{_HOSTILE}::test_what_the_broker_itself_refuses_a_node",
    ),
    "foreign reply_to": (f"{_HOSTILE}::test_a_message_with_a_foreign_reply_to",),
    "dead letter replayed twice": ("test_replayed.py::test_a_dead_letter_replayed_twice",),
    "dead letter replayed for a dead container": (
        "test_replayed.py::test_a_dead_letter_replayed_for_a_dead_container",
    ),
    "old administrative request replayed": ("test_replayed.py::test_an_old_administrative_request_replayed",),
    "10,000-pod burst with the allocator killed in the middle": (
        "test_burst.py::test_a_burst_of_ten_thousand_pods_with_the_allocator_killed_in_the_middle",
    ),
    "clock set an hour off on a node": ("test_clock.py::test_a_clock_an_hour_off_on_a_node",),
    "GC absent, null, wrong list": (f"{_NODE}::test_a_gc_whose_list_is_absent_null_or_wrong",),
    "netns mounts vanish by mistake": ("test_vanishing.py::test_netns_mounts_that_vanish_by_mistake",),
    "database restored from an older backup": (
        "test_restored.py::test_a_database_restored_from_an_older_backup",
    ),
}
"""The tests of each row, by their names below tests/chaos/."""


def told(reports: Iterable[pytest.TestReport]) -> list[str]:
    """A table of rows: what came of the tests of each, and how long they took with all they need."""
    outcomes: dict[str, set[str]] = {}
    seconds: dict[str, float] = {}
    for report in reports:
        name = report.nodeid.removeprefix(_HERE).partition("[")[0]
        seconds[name] = seconds.get(name, 0.0) + report.duration
        if report.when == "call" or report.outcome != "passed":
            outcomes.setdefault(name, set()).add(report.outcome)
    if not outcomes.keys() & {name for tests in ROWS.values() for name in tests}:
        return []
    lines = []
    for row, tests in ROWS.items():
        took = sum(seconds.get(name, 0.0) for name in tests)
        lines.append(f"  {_outcome([outcomes.get(name, set()) for name in tests]):8}{took:6.1f} s  {row}")
    return ["rows:", *lines]


def _outcome(found: list[set[str]]) -> str:
    if not all(found):
        return "in part" if any(found) else "not run"
    return next((each for each in ("failed", "skipped") if any(each in one for one in found)), "passed")
