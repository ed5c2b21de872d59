"""What the doctor sees of a node: its socket, its journal and its links, from beside the worker."""

import sqlite3
from pathlib import Path
from uuid import uuid4

import pytest

from cni.places import Places
from compose.doctor import node_checks
from compose.doctor.site import Site
from compose.doctor.verdict import Skipped
from compose.settings import Settings
from node_worker import attachments, inspection, networks
from node_worker.attachments import Attachment
from node_worker.journal import Journal
from node_worker.plan import host_link_name
from schemas.errors import ErrorBody, ServiceError
from schemas.node import DesiredNetwork
from tests.cni_worker import fake_worker


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A node whose journal and socket are in a folder of their own."""
    settings = Settings(node_name="n1", node_dir=tmp_path, cni_socket=tmp_path / "s")
    return Site(settings, Places(tmp_path / "bin", tmp_path / "net.d", tmp_path / "s"))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    with Journal(tmp_path / "journal.sqlite") as opened:
        yield opened


def attachment() -> Attachment:
    named = uuid4()
    return Attachment(
        attachment_id=named,
        network="prod",
        conf_name="pods",
        container_id=named.hex,
        ifname="eth0",
        owner="shop/web-0",
        netns="/run/netns/x",
        netns_device=1,
        netns_inode=2,
        boot_id="b",
        driver="bridge",
        bridge="mo-prod",
        host_link=host_link_name(named),
    )


def told(connection: sqlite3.Connection, name: str = "prod") -> None:
    definition = {"subnets": [{"cidr": "10.1.0.0/24"}]}
    desired = {"network": name, "version": 1, "state": "present", "definition": definition}
    networks.told(connection, DesiredNetwork.model_validate(desired))


@pytest.mark.parametrize("check", ["cni", "socket", "journal", "node_networks", "links"])
def test_nothing_of_a_node_is_looked_at_elsewhere(tmp_path: Path, check: str):
    site = Site(Settings(), Places(tmp_path, tmp_path, tmp_path / "s"))
    with pytest.raises(Skipped, match="needs MOORAGE_NODE_NAME"):
        getattr(node_checks, check)(site)


def test_a_worker_that_serves_is_well(site: Site):
    with fake_worker(site.places.socket) as worker:
        site.places.socket.chmod(0o600)
        said = node_checks.socket(site)
    assert said.state == "ok"
    assert worker.asked[0]["network"] == "moorage-doctor"


def test_a_worker_that_does_not_serve_says_why(site: Site):
    with fake_worker(site.places.socket, "the allocator is not reached"):
        site.places.socket.chmod(0o600)
        said = node_checks.socket(site)
    assert (said.state, said.found) == ("fail", "the allocator is not reached")


def test_a_socket_that_others_may_use_is_told(site: Site):
    with fake_worker(site.places.socket):
        site.places.socket.chmod(0o666)
        said = node_checks.socket(site)
    assert said.state == "warn"
    assert "has mode 0666" in said.found
    assert f"chmod 0600 {site.places.socket}" in said.advice


def test_no_socket_and_one_that_nobody_listens_at_are_told(site: Site):
    assert "No such file" in node_checks.socket(site).found
    with fake_worker(site.places.socket):
        site.places.socket.chmod(0o600)
    said = node_checks.socket(site)
    assert said.state == "fail"
    assert "nobody listens" in said.found
    assert "`moorage node`" in said.advice


def test_something_else_at_the_socket_s_path_is_told(site: Site):
    site.places.socket.write_text("x")
    assert "is not a socket" in node_checks.socket(site).found


def test_the_journal_is_read_while_its_worker_has_it_locked(site: Site, journal: Journal):
    journal.now(attachments.begin, attachment())
    said = node_checks.journal(site)
    assert (said.state, said.found) == ("ok", "1 attachment, no release waits")
    journal.now(attachments.begin, attachment())
    assert len(inspection.read_journal(site.settings.node_dir / "journal.sqlite").attachments) == 2


def test_releases_that_wait_are_told(monkeypatch, site: Site, journal: Journal):
    monkeypatch.setattr(node_checks.time, "sleep", lambda _: None)
    held = attachment()
    journal.now(attachments.begin, held)
    journal.now(attachments.removing, held)
    said = node_checks.journal(site)
    assert said.state == "warn"
    assert said.found.startswith("1 release unanswered")


def test_a_release_that_was_answered_meanwhile_is_well(monkeypatch, site: Site, journal: Journal):
    held = attachment()
    journal.now(attachments.begin, held)
    release = journal.now(attachments.removing, held)
    monkeypatch.setattr(node_checks.time, "sleep", lambda _: journal.now(attachments.settled, release.id))
    assert node_checks.journal(site).state == "ok"


def test_no_journal_and_a_damaged_one_are_told(site: Site):
    with pytest.raises(ServiceError, match="there is none"):
        node_checks.journal(site)
    (site.settings.node_dir / "journal.sqlite").write_bytes(b"SQLite format 3\0" + bytes(5000))
    with pytest.raises(ServiceError, match="cannot be read"):
        node_checks.journal(site)


def test_networks_that_the_node_could_not_make_are_told(site: Site, journal: Journal):
    journal.now(told)
    said = node_checks.node_networks(site)
    assert (said.state, said.found) == ("warn", "not made yet: prod")
    (row,) = journal.now(networks.rows)
    journal.now(networks.came_out, row, "error", ErrorBody(code="uplink_missing", message="no eth1"))
    said = node_checks.node_networks(site)
    assert (said.state, said.found) == ("fail", "prod: uplink_missing: no eth1")
    assert "`moorage network show prod`" in said.advice
    journal.now(networks.came_out, row, "ready", None)
    assert node_checks.node_networks(site).state == "ok"


def test_a_link_of_ours_that_the_journal_does_not_know_is_told(monkeypatch, site: Site, journal: Journal):
    known, unknown = attachment(), attachment()
    journal.now(attachments.begin, known)
    journal.now(told)
    there = {"lo", "eth0", "mo-prod", "mt-prod", known.host_link, unknown.host_link, "mo-old", "motel"}
    monkeypatch.setattr(inspection, "named_links", lambda: dict(enumerate(there)))
    said = node_checks.links(site)
    assert said.state == "warn"
    assert set(said.found.removeprefix("not in the journal: ").split("; ")) == {unknown.host_link, "mo-old"}
    assert "`ip link del mo" in said.advice


def test_a_link_that_goes_meanwhile_is_no_orphan(monkeypatch, site: Site, journal: Journal):
    looks = [{1: host_link_name(uuid4())}, {}]
    monkeypatch.setattr(inspection, "named_links", lambda: looks.pop(0))
    assert node_checks.links(site).state == "ok"
