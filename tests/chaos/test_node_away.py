"""A node is not heard, or nobody is there to hear it: nothing moves until somebody says that it is off."""

import pytest
from sqlalchemy import text

from compose.hosts import prefix_of
from node_worker.netlink import simulated
from schemas.history import HistoryList, HistoryPage
from tests.acceptance.hosts import inside
from tests.acceptance.machines import until
from tests.chaos.stage import Stage, address_of, code_of

pytestmark = [pytest.mark.chaos, pytest.mark.services, pytest.mark.netns]

LOST_S = 90
"""A node is lost after 35 s without a heartbeat."""


def test_a_node_cut_off_and_its_pod_created_again_elsewhere(stage: Stage):
    """Its address is withheld until the node is fenced; the node ends its old endpoint before it goes on."""
    old = stage.pod("shop/web-0")
    address = address_of(old.add())
    stage.to_broker["node-1"].hold()
    switch_port(stage, "down")
    new = stage.pod("shop/web-0", "node-2")
    status, answer = new.call("ADD")
    assert (status, answer["code"], answer["details"]) == (1, 11, "owner_attached_elsewhere")
    until(lambda: stage.node_states()["node-1"] == "lost", LOST_S)
    assert code_of(new.call("ADD")) == 11, "that nobody hears it does not say that its pods are off"
    fenced = stage.command("node", "fence", "node-1", "--reason", "its power is cut", "--yes")
    assert fenced.returncode == 0, fenced.stderr
    assert address_of(new.add()) == address
    switch_port(stage, "up")
    stage.to_broker["node-1"].heal()
    until(lambda: address not in old.links(), 60)
    until(lambda: code_of(stage.status("node-1")) == 0, 60)
    assert address in new.links()


def switch_port(stage: Stage, state: str) -> None:
    """The cable of node-1 on the pods' underlay."""
    underlay = simulated.netns_path(f"{prefix_of(stage.folder)}-underlay")
    inside(underlay, "ip", "link", "set", "port1", state)


def test_all_allocators_down_for_longer_than_a_node_may_be_silent(stage: Stage):
    """No node is called lost at their return, also before the first heartbeat reaches them.

    That it took so long is told by the database's own clock alone: what it noted of the nodes is made older
    by an hour while nobody reads it.
    """
    pod = stage.pod("shop/web-0")
    pod.add()
    for way in (stage.to_broker["node-1"], stage.to_broker["node-2"]):
        way.hold()
    stage.allocator.kill()
    with stage.engine.begin() as connection:
        connection.execute(text("UPDATE nodes SET last_seen = last_seen - INTERVAL 1 HOUR"))
    stage.allocator.start()
    assert set(stage.node_states().values()) == {"ready"}
    ticks = len(stage.sql.queries)
    until(lambda: len(stage.sql.queries) > ticks + 20)  # its timers have run some times
    assert set(stage.node_states().values()) == {"ready"}
    for way in (stage.to_broker["node-1"], stage.to_broker["node-2"]):
        way.heal()
    until(lambda: all(code_of(stage.status(node)) == 0 for node in ("node-1", "node-2")), 60)
    query = HistoryList.model_validate({"network": "_system"})
    assert "node.lost" not in [row.event for row in stage.ask(query, HistoryPage).rows]
    pod.delete()
