"""After a restored backup: numbers never go back, and nobody gets anything before nodes were heard."""

from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from allocator.restoring import declare_restored, resume, unheard
from schemas.address import AddressRelease
from schemas.network import NetworkShow, NetworkUpdate
from schemas.node import NodeHeartbeat, NodeList, NodeSync
from schemas.pool import PoolList, PoolUpdate
from tests.integration.allocating import Asked, only, told_of

pytestmark = pytest.mark.services


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """Network prod with a pinned pool."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/24")
    made.pool("web", "10.1.0.10-10.1.0.19", owners=["shop/web-*"])
    return made


class Backup:
    """All tables as they are, to be put back."""

    TABLES = (
        *("epochs", "networks", "subnets", "pools", "ranges"),
        *("allocations", "nodes", "history", "requests"),
    )

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        with engine.begin() as connection:
            for name in self.TABLES:
                copy = f"CREATE OR REPLACE TABLE saved_{name} AS SELECT * FROM {name}"  # noqa: S608
                connection.execute(text(copy))

    def restore(self) -> None:
        with self._engine.begin() as connection:
            connection.execute(text("SET FOREIGN_KEY_CHECKS = 0"))
            for name in self.TABLES:
                connection.execute(text(f"DELETE FROM {name}"))  # noqa: S608
                connection.execute(text(f"INSERT INTO {name} SELECT * FROM saved_{name}"))  # noqa: S608
                connection.execute(text(f"DROP TABLE saved_{name}"))
            connection.execute(text("SET FOREIGN_KEY_CHECKS = 1"))


def work_on(asked: Asked) -> tuple[int, int, int]:
    """Change everything that has a number: the network's version, the pool's, and the last seq."""
    asked.deferred(asked.make(NetworkUpdate, owners=[]))
    asked.reply(asked.make(PoolUpdate, pool="web", cooldown_s=7))
    network = asked.reply(NetworkShow(network="prod"))
    (web,) = [pool for pool in asked.reply(PoolList(network="prod")).pools if pool.pool == "web"]
    return network.version, web.version, asked.history()[-1].seq


def test_versions_and_seqs_never_go_back(asked: Asked, engine: Engine):
    backup = Backup(engine)
    lost = [work_on(asked) for _ in range(20)][-1]
    backup.restore()
    again = Asked(engine, nodes=[])  # no allocator serves while a backup is put back
    again.sessions = asked.sessions
    again._requests = 1000
    declare_restored(engine)
    new = work_on(again)
    assert all(after > before for after, before in zip(new, lost, strict=True))
    backup = Backup(engine)
    lost = [work_on(again) for _ in range(3)][-1]
    backup.restore()
    declare_restored(engine)
    third = Asked(engine, nodes=[])
    third._requests = 2000
    assert all(after > before for after, before in zip(work_on(third), lost, strict=True))


def test_what_was_given_out_after_the_backup_is_adopted_and_goes_on(asked: Asked, engine: Engine):
    backup = Backup(engine)
    lost = asked.attach("shop/web-0", "n1")
    backup.restore()
    declare_restored(engine)
    again = Asked(engine, nodes=[])
    assert again.refusal(again.ask("shop/web-1", "n2")).code == "paused"
    detail = told_of(lost, "shop/web-0")
    request = {"node": "n1", "session": asked.sessions["n1"], "attachments": [lost.attachment_id]}
    page = again.reply(NodeSync.model_validate(request))
    assert page.unknown == (lost.attachment_id,)
    page = again.reply(NodeSync.model_validate(request | {"details": [detail]}))
    assert (page.unknown, page.stale) == ((), ())
    resume(engine)
    assert only(again.attach("shop/web-1", "n2")) == "10.1.0.11"
    assert again.release(lost.attachment_id, "n1") == [only(lost)]
    again.check_used()


def test_a_release_that_the_backup_does_not_know_frees_what_the_backup_has(asked: Asked, engine: Engine):
    held = asked.attach("shop/web-0", "n1", container_id="c7")
    backup = Backup(engine)
    asked.release(held.attachment_id)
    backup.restore()
    declare_restored(engine)
    again = Asked(engine, nodes=[])
    request = NodeSync(node="n1", session=asked.sessions["n1"], attachments=())
    (left,) = again.reply(request).leftover
    body = {"network": left.network, "node": "n1", "container_id": left.container_id, "ifname": left.ifname}
    again.reply(AddressRelease.model_validate(body | {"attachment_id": left.attachment_id}))
    assert [row.state for row in again.addresses()] == ["waiting"]


def test_a_node_counts_as_heard_once_it_has_synced_and_not_by_a_heartbeat(asked: Asked, engine: Engine):
    declare_restored(engine)
    assert unheard(engine) == ["n1", "n2"]
    answer = asked.reply(NodeHeartbeat(node="n1", session=asked.sessions["n1"]))
    assert (answer.digest, answer.fenced) == ("", False)  # which makes it sync
    assert unheard(engine) == ["n1", "n2"]
    asked.reply(NodeSync(node="n1", session=asked.sessions["n1"], attachments=()))
    assert unheard(engine) == ["n2"]
    assert asked.reply(NodeHeartbeat(node="n1", session=asked.sessions["n1"])).digest != ""
    resume(engine)
    asked.reply(NodeHeartbeat(node="n2", session=asked.sessions["n2"]))
    assert unheard(engine) == []
    assert {node.state for node in asked.reply(NodeList()).nodes} == {"ready"}


def test_a_pause_survives_the_allocator_and_ends_once(asked: Asked, engine: Engine):
    declare_restored(engine)
    asked.refusal(asked.ask("shop/web-0"))
    again = Asked(engine, nodes=[])
    assert again.refusal(again.ask("shop/web-0")).code == "paused"
    resume(engine)
    resume(engine)
    assert only(again.attach("shop/web-0")) == only(asked.attach("shop/web-0", "n1"))


def test_a_known_attachment_goes_on_through_the_pause(asked: Asked, engine: Engine):
    request = asked.ask("shop/web-0")
    first = asked.reply(request)
    declare_restored(engine)
    assert asked.reply(request) == first
    assert asked.release(request.attachment_id) == [only(first)]
    assert asked.release(uuid4()) == []
