"""Ports that were free a moment ago: reserved, released, and stolen in between."""

import socket
from pathlib import Path

import pytest

from compose.services.errors import NotStarted
from compose.services.ports import candidates, reserve
from compose.services.starting import outlast_thefts
from schemas.errors import ServiceError


def test_a_reserved_port_is_taken_until_its_release() -> None:
    reservation = reserve(3, "seed")
    assert len(set(reservation.ports)) == 3
    assert set(reservation.ports) <= set(candidates())
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", reservation.ports[0])).close()
    reservation.release()
    reservation.release()
    for port in reservation.ports:
        socket.create_server(("127.0.0.1", port)).close()


def test_the_same_seed_gives_the_same_ports_unless_they_are_taken() -> None:
    first = reserve(2, "stable")
    beside = reserve(2, "stable")
    assert not set(first.ports) & set(beside.ports)
    first.release()
    beside.release()
    again = reserve(2, "stable")
    again.release()
    assert again.ports == first.ports


def test_too_few_free_ports_say_what_to_look_at() -> None:
    taken = reserve(2, "all", range(20000, 20400))
    holes = range(min(taken.ports), min(taken.ports) + 1)
    with pytest.raises(ServiceError, match=r"only 0 of 1 ports are free.*ss -ltn"):
        reserve(1, "none", holes)
    taken.release()


def taken(name: str) -> NotStarted:
    return NotStarted(name, "ended early", "Look", Path("log"), ["{listen_error,eaddrinuse}"])


def test_a_theft_moves_the_server_to_other_ports() -> None:
    outcomes: list[NotStarted | None] = [taken("first"), None]
    calls: list[str] = []

    def wait() -> None:
        if error := outcomes.pop(0):
            raise error

    outlast_thefts(wait, lambda: calls.append("stop"), lambda: calls.append("elsewhere"), tries=3)
    assert calls == ["stop", "elsewhere"]


def test_thefts_are_outlasted_a_limited_number_of_times() -> None:
    calls: list[str] = []

    def wait() -> None:
        raise taken(f"try {calls.count('elsewhere')}")

    with pytest.raises(NotStarted, match="try 2"):
        outlast_thefts(wait, lambda: calls.append("stop"), lambda: calls.append("elsewhere"), tries=3)
    assert calls == ["stop", "elsewhere", "stop", "elsewhere", "stop"]


@pytest.mark.parametrize(
    "line",
    [
        "Can't start server: Bind on TCP/IP port. Got error: 98: Address already in use",
        "{could_not_start_listener,'127.0.0.1',26672,eaddrinuse}",
        '{dist_port_already_used,25340,not_erlang,"localhost"}',
        "epmd: failed to bind to address 127.0.0.1: Address already in use",
    ],
)
def test_a_theft_is_known_by_what_each_server_logs(line: str) -> None:
    assert NotStarted("server", "ended early", "Look", Path("log"), [f"error: {line}", "bye"]).port_was_taken


def test_a_line_of_pages_is_shown_in_part() -> None:
    shown = str(NotStarted("server", "ended early", "Look", Path("log"), ["x" * 5000, "the end"]))
    assert len(shown) < 700
    assert shown.endswith("the end")


def test_another_failure_is_not_tried_again() -> None:
    calls: list[str] = []

    def wait() -> None:
        raise NotStarted("server", "ended early", "Look", Path("log"), ["disk full"])

    with pytest.raises(NotStarted, match="disk full"):
        outlast_thefts(wait, lambda: calls.append("stop"), lambda: calls.append("elsewhere"), tries=3)
    assert calls == ["stop"]
