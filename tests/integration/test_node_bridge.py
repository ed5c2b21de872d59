"""The bridge of a network and its uplink, in real network namespaces."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from node_worker.netlink import simulated
from node_worker.netlink.bridge import ensure_bridge, remove_bridge
from node_worker.netlink.veth import remove_veth
from schemas.errors import Code, ServiceError
from tests.node_lab import Lab, attach_veth, bridge, link, pings, plan, run

pytestmark = pytest.mark.netns


@pytest.fixture
def lab() -> Iterator[Lab]:
    with ExitStack() as stack:
        made = Lab(stack)
        yield made
    assert [name for name in simulated.netns_names() if name.startswith(made.name(""))] == []


def test_a_network_gets_a_bridge_that_says_whose_it_is(lab: Lab) -> None:
    host = lab.netns("host")
    ensure_bridge(host, bridge(mtu=1400))
    made = link(host, "mo-prod")
    assert made is not None
    assert (made.kind, made.alias, made.mtu, made.up) == ("bridge", "moorage network prod", 1400, True)
    details = run(host, "ip", "-details", "link", "show", "mo-prod")
    for setting in ("forward_delay 0", "stp_state 0", "mcast_snooping 0"):
        assert setting in details


def test_making_a_network_twice_changes_nothing(lab: Lab) -> None:
    (host,) = lab.hosts("host")
    ensure_bridge(host, bridge(uplink="eth1"))
    before = link(host, "mo-prod"), link(host, "eth1")
    ensure_bridge(host, bridge(uplink="eth1"))
    assert (link(host, "mo-prod"), link(host, "eth1")) == before


def test_the_bridge_keeps_its_mac_when_pods_come_and_go(lab: Lab) -> None:
    host, pod = lab.netns("host"), lab.netns("pod")
    ensure_bridge(host, bridge())
    before = link(host, "mo-prod")
    attach_veth(host, pod, plan(5))
    remove_veth(host, plan(5).host_link)
    after = link(host, "mo-prod")
    assert before is not None
    assert after is not None
    assert before.mac == after.mac


def test_a_removed_network_leaves_its_uplink_free(lab: Lab) -> None:
    (host,) = lab.hosts("host")
    ensure_bridge(host, bridge(uplink="eth1"))
    remove_bridge(host, bridge(uplink="eth1"))
    remove_bridge(host, bridge(uplink="eth1"))
    uplink = link(host, "eth1")
    assert link(host, "mo-prod") is None
    assert uplink is not None
    assert uplink.master is None
    ensure_bridge(host, bridge("test", uplink="eth1"))


def test_a_missing_uplink_is_named_with_those_there_are_and_no_bridge_is_made(lab: Lab) -> None:
    (host,) = lab.hosts("host")
    with pytest.raises(ServiceError, match=r"no interface eth7.*free here:.*eth1") as caught:
        ensure_bridge(host, bridge(uplink="eth7"))
    assert caught.value.code == Code.UPLINK_MISSING
    assert link(host, "mo-prod") is None


def test_an_uplink_of_another_network_is_refused_and_that_network_is_named(lab: Lab) -> None:
    (host,) = lab.hosts("host")
    ensure_bridge(host, bridge("test", uplink="eth1"))
    with pytest.raises(ServiceError, match=r"mo-test \(moorage network test\)") as caught:
        ensure_bridge(host, bridge("prod", uplink="eth1"))
    assert caught.value.code == Code.UPLINK_IN_USE
    assert caught.value.fields["bridge"] == "mo-test"
    assert link(host, "mo-prod") is None


def test_an_uplink_with_the_nodes_own_addresses_is_refused(lab: Lab) -> None:
    (host,) = lab.hosts("host")
    run(host, "ip", "address", "add", "192.0.2.7/24", "dev", "eth1")
    with pytest.raises(ServiceError, match=r"192\.0\.2\.7/24") as caught:
        ensure_bridge(host, bridge(uplink="eth1"))
    assert caught.value.code == Code.UPLINK_IN_USE
    assert pings(host, "192.0.2.7")


def test_an_uplink_with_a_smaller_mtu_is_refused_with_both_figures(lab: Lab) -> None:
    (host,) = lab.hosts("host", mtu=1400)
    with pytest.raises(ServiceError, match=r"MTU 1500 and uplink eth1 has 1400") as caught:
        ensure_bridge(host, bridge(uplink="eth1"))
    assert caught.value.code == Code.LINK_CONFLICT


@pytest.mark.parametrize("alias", ["somebody else's", None])
def test_a_foreign_link_in_the_bridges_place_is_neither_taken_nor_removed(
    lab: Lab, alias: str | None
) -> None:
    host = lab.netns("host")
    run(host, "ip", "link", "add", "mo-prod", "type", "bridge")
    if alias is None:  # unnamed, but in use
        run(host, "ip", "link", "add", "port", "master", "mo-prod", "type", "veth")
    else:
        run(host, "ip", "link", "set", "mo-prod", "alias", alias)
    with pytest.raises(ServiceError) as caught:
        ensure_bridge(host, bridge())
    assert caught.value.code == Code.LINK_CONFLICT
    remove_bridge(host, bridge())
    assert link(host, "mo-prod") is not None


def test_a_bridge_that_a_killed_worker_had_not_named_yet_is_finished(lab: Lab) -> None:
    host = lab.netns("host")
    run(host, "ip", "link", "add", "mo-prod", "type", "bridge")
    ensure_bridge(host, bridge())
    made = link(host, "mo-prod")
    assert made is not None
    assert made.alias == "moorage network prod"
