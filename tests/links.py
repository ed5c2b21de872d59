"""Kinds of links that a kernel may lack: which tests need them, and where those ran.

A test says it with `@pytest.mark.needs_link("ipvlan", ...)`. Where the kernel cannot make one, the test is
skipped and says so, except in the virtual machine of `make test-vm`, which is there to run them all.
"""

import errno
import os
import platform
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest

from node_worker.netlink import simulated
from node_worker.netlink.namespace import Netns
from node_worker.netlink.session import Refused, inside

IN_VM = bool(os.environ.get("MOORAGE_TEST_VM"))
KINDS = ("bridge", "vxlan", "macvlan", "ipvlan", "vlan")
_SETTINGS = {
    "vxlan": {"vxlan_id": 1, "vxlan_port": 4789},
    "vlan": {"vlan_id": 1},
    "ipvlan": {"ipvlan_mode": 0},
}
_PROPERTY = "needs links"
_MADE_OF = {"vxlan": ("bridge", "vxlan")}


def on(**driver: Any) -> Any:
    """A parameter: a network's driver settings, with the mark of the kinds of links that it is made of."""
    kind = driver["type"]
    kinds = [*_MADE_OF.get(kind, (kind,)), *(["vlan"] if driver.get("vlan") else [])]
    named = f"{kind}-vlan" if driver.get("vlan") else kind
    return pytest.param(driver, marks=pytest.mark.needs_link(*kinds), id=named)


@cache
def can_make(kind: str) -> bool:
    """Whether this kernel makes links of that kind."""
    name = f"mot-kinds-{os.getpid()}"
    simulated.create_netns(name)
    try:
        with Netns(str(simulated.netns_path(name))) as netns, inside(netns) as links:
            links.add("below", "veth", peer="beyond")
            below = links.find("below")
            lower = {"link": below.index} if below is not None and kind != "bridge" else {}
            links.add("tried", kind, **lower, **_SETTINGS.get(kind, {}))
    except Refused as refusal:
        if refusal.errno != errno.EOPNOTSUPP:
            raise
        return False
    finally:
        simulated.remove_netns(name)
    return True


def mark(items: Iterable[pytest.Item], *, usable: bool) -> None:
    """Note for the summary what tests need; skip those that need what the kernel lacks, if it is `usable`."""
    for item in items:
        marker = item.get_closest_marker("needs_link")
        if marker is None:
            continue
        unknown = set(marker.args) - set(KINDS)
        if unknown or not marker.args:
            raise pytest.UsageError(f"{item.nodeid}: needs_link takes some of {KINDS}")
        item.user_properties.append((_PROPERTY, " ".join(marker.args)))
        lacking = [kind for kind in marker.args if usable and not IN_VM and not can_make(kind)]
        if lacking:
            reason = f"this kernel makes no {', '.join(lacking)}: `make test-vm` runs this where one does"
            item.add_marker(pytest.mark.skip(reason=reason))


def told(reports: Iterable[tuple[str, pytest.TestReport]]) -> list[str]:
    """What became of the tests that need each kind of link, and with which kernel; nothing without such."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for outcome, report in reports:
        for kind in str(dict(report.user_properties).get(_PROPERTY, "")).split():
            counts[kind][outcome] += 1
    lines = [
        f"  {kind:8} " + ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        for kind, outcomes in counts.items()
        if outcomes
    ]
    where = "in the virtual machine" if IN_VM else "on this machine"
    return [f"tests of links, {where}, kernel {platform.release()}:", *lines] if lines else []
