"""The journal: what is written is there after a restart, and a file that cannot be used says what to do."""

import sqlite3
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path
from uuid import uuid4

import pytest

from node_worker import attachments, networks
from node_worker.attachments import Attachment, State
from node_worker.journal import Journal
from schemas.errors import Code, ErrorBody, ServiceError
from schemas.node import LeftoverAttachment
from tests.node_allocator import absent, present


def draft(container: str = "c1", conf_name: str = "pods", network: str = "prod") -> Attachment:
    return Attachment(
        attachment_id=uuid4(),
        network=network,
        conf_name=conf_name,
        container_id=container,
        ifname="eth0",
        owner=f"shop/{container}",
        netns=f"/run/netns/{container}",
        netns_device=4,
        netns_inode=4026532001,
        boot_id="boot",
        driver="bridge",
        bridge="mo-prod",
        host_link="mo0123456789abc",
    )


def leftover(row: Attachment) -> LeftoverAttachment:
    return LeftoverAttachment(
        attachment_id=row.attachment_id,
        network=row.network,
        container_id=row.container_id,
        ifname=row.ifname,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.sqlite"


async def test_an_attachment_is_the_same_after_a_restart(path: Path) -> None:
    row = draft()
    addresses = (ip_interface("10.20.0.5/24"), ip_interface("fd00::5/64"))
    with Journal(path) as journal:
        await journal.run(attachments.begin, row)
        assert await journal.run(attachments.answered, row.attachment_id, addresses, "0a:58:0a:14:00:05", ())
        assert await journal.run(attachments.attached, row.attachment_id)
    with Journal(path) as journal:
        found = await journal.run(attachments.find, "c1", "eth0", "pods")
    assert found == replace(row, state=State.ATTACHED, addresses=addresses, mac="0a:58:0a:14:00:05")


async def test_commits_outlive_the_process_and_the_file_outlives_the_machine(path: Path) -> None:
    with Journal(path) as journal:
        modes = await journal.run(
            lambda connection: (
                connection.execute("PRAGMA journal_mode").fetchone()[0],
                connection.execute("PRAGMA synchronous").fetchone()[0],
            )
        )
    assert modes == ("wal", 1)  # 1 is NORMAL


async def test_a_failed_transaction_leaves_nothing(path: Path) -> None:
    row = draft()

    def fail(connection: sqlite3.Connection) -> None:
        attachments.begin(connection, row)
        raise LookupError

    with Journal(path) as journal:
        with pytest.raises(LookupError):
            await journal.run(fail)
        assert await journal.run(attachments.by_id, row.attachment_id) is None


async def test_an_attachment_and_its_release_change_places_in_one_transaction(path: Path) -> None:
    row = draft()
    with Journal(path) as journal:
        await journal.run(attachments.begin, row)
        release = await journal.run(attachments.removing, row)
        assert release is not None
        again = await journal.run(attachments.removing, row)
        assert again == release, "the second DEL owes no second release"
        assert [item.attachment_id for item in await journal.run(attachments.owed)] == [row.attachment_id]
        found = await journal.run(attachments.by_id, row.attachment_id)
        assert found is not None
        assert found.state is State.REMOVING


async def test_what_is_being_removed_never_becomes_attached(path: Path) -> None:
    row = draft()
    with Journal(path) as journal:
        await journal.run(attachments.begin, row)
        await journal.run(attachments.removing, row)
        assert not await journal.run(attachments.answered, row.attachment_id, (), "0a:58:0a:14:00:05", ())
        assert not await journal.run(attachments.attached, row.attachment_id)


async def test_only_finished_attachments_are_not_unfinished(path: Path) -> None:
    rows = [draft(container) for container in ("allocating", "wiring", "attached", "removing")]
    with Journal(path) as journal:
        for row in rows:
            await journal.run(attachments.begin, row)
        for row in rows[1:3]:
            await journal.run(attachments.answered, row.attachment_id, (), "0a:58:0a:14:00:05", ())
        await journal.run(attachments.attached, rows[2].attachment_id)
        await journal.run(attachments.removing, rows[3])
        left = await journal.run(attachments.left_over, "boot")
    assert {row.container_id for row in left} == {"allocating", "wiring", "removing"}


async def test_held_are_those_whose_allocate_was_answered_and_that_stay(path: Path) -> None:
    rows = [draft(container) for container in ("allocating", "wiring", "attached", "removing")]
    with Journal(path) as journal:
        for row in rows:
            await journal.run(attachments.begin, row)
        for row in rows[1:]:
            await journal.run(attachments.answered, row.attachment_id, (), "0a:58:0a:14:00:05", ())
        await journal.run(attachments.attached, rows[2].attachment_id)
        await journal.run(attachments.removing, rows[3])
        held = await journal.run(attachments.held)
        assert [row.attachment_id for row in held] == await journal.run(attachments.held_ids)
        assert len(await journal.run(attachments.everything)) == 4
    assert [row.container_id for row in held] == ["wiring", "attached"]


async def test_the_release_of_an_attachment_that_is_known_in_any_state_is_not_owed_for_its_absence(
    path: Path,
) -> None:
    row, gone = draft(), draft("c2")
    with Journal(path) as journal:
        await journal.run(attachments.begin, row)
        await journal.run(attachments.begin, gone)
        await journal.run(attachments.removing, gone)
        await journal.run(attachments.gone, gone.attachment_id)
        for known in (row, gone):
            assert await journal.run(attachments.owe_unknown, leftover(known)) is None
        assert await journal.run(attachments.owe_unknown, leftover(draft("c3"))) is not None
        assert [item.container_id for item in await journal.run(attachments.owed)] == ["c2", "c3"]


async def test_a_journal_is_new_until_something_was_written_down_in_an_earlier_life(path: Path) -> None:
    for _ in range(2):
        with Journal(path) as journal:
            assert journal.is_new
    with Journal(path) as journal:
        await journal.run(networks.told, present())
        assert journal.is_new, "that was in this life"
    with Journal(path) as journal:
        assert not journal.is_new


async def test_a_journal_whose_every_row_is_gone_again_is_not_new(path: Path) -> None:
    row = draft()
    with Journal(path) as journal:
        await journal.run(attachments.begin, row)
        release = await journal.run(attachments.removing, row)
        assert release is not None
        await journal.run(attachments.gone, row.attachment_id)
        await journal.run(attachments.settled, release.id)
    with Journal(path) as journal:
        assert not journal.is_new


async def test_a_release_by_container_is_owed_once(path: Path) -> None:
    with Journal(path) as journal:
        first = await journal.run(attachments.owe_nameless, "prod", "c1", "eth0")
        second = await journal.run(attachments.owe_nameless, "prod", "c1", "eth0")
        assert first is not None
        assert first == second
        assert first.attachment_id is None


async def test_a_release_by_container_spares_an_attachment_of_another_configuration(path: Path) -> None:
    with Journal(path) as journal:
        await journal.run(attachments.begin, draft(conf_name="other"))
        assert await journal.run(attachments.owe_nameless, "prod", "c1", "eth0") is None
        assert await journal.run(attachments.owed) == []


async def test_a_network_version_never_goes_back(path: Path) -> None:
    with Journal(path) as journal:
        await journal.run(networks.told, present(version=7))
        await journal.run(networks.told, absent(version=6))
        (row,) = await journal.run(networks.rows)
    assert (row.version, row.desired) == (7, "present")


async def test_a_network_that_nobody_lists_any_more_is_to_be_removed(path: Path) -> None:
    with Journal(path) as journal:
        await journal.run(networks.told, present("prod"))
        await journal.run(networks.told, present("test"))
        await journal.run(networks.listed, ["test"])
        rows = await journal.run(networks.rows)
    assert [(row.network, row.desired) for row in rows] == [("prod", "absent"), ("test", "present")]


async def test_the_same_outcome_twice_is_no_news(path: Path) -> None:
    error = ErrorBody(code=Code.UPLINK_MISSING, message="no eth1")
    with Journal(path) as journal:
        await journal.run(networks.told, present())
        (row,) = await journal.run(networks.rows)
        await journal.run(networks.came_out, row, "error", error)
        (row,) = await journal.run(networks.unreported)
        await journal.run(networks.reported, row)
        await journal.run(networks.came_out, row, "error", error)
        assert await journal.run(networks.unreported) == []
        await journal.run(networks.came_out, row, "ready", None)
        assert [item.outcome for item in await journal.run(networks.unreported)] == ["ready"]


async def test_a_disk_that_is_full_is_known_until_something_was_written_again(path: Path) -> None:
    row = draft()
    with Journal(path) as journal:
        (pages,) = await journal.run(lambda connection: connection.execute("PRAGMA page_count").fetchone())
        await journal.run(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}"))
        journal.check()
        full = await fill(journal)
        assert (full.code, full.retryable) == (Code.IO_FAILURE, True)
        assert await journal.run(attachments.by_id, row.attachment_id) is None, "it can still be read"
        with pytest.raises(ServiceError, match=f"{path} cannot be written.*make room") as caught:
            journal.check()
        assert caught.value.code == Code.IO_FAILURE
        await journal.run(lambda connection: connection.execute("PRAGMA max_page_count = 100000"))
        await journal.prove()
        journal.check()
        await journal.run(attachments.begin, row)


async def fill(journal: Journal) -> ServiceError:
    """Write until that fails."""
    for number in range(1000):
        try:
            await journal.run(attachments.begin, draft(f"filler-{number}"))
        except ServiceError as error:
            return error
    raise AssertionError("there was room for all")


async def test_a_second_worker_cannot_open_the_same_journal(path: Path) -> None:
    with Journal(path), pytest.raises(ServiceError, match="stop the other node worker"):
        Journal(path)


def test_a_damaged_journal_says_what_to_do(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this was a journal once" * 500)
    with pytest.raises(ServiceError, match=rf"damaged.*mv {path} ") as caught:
        Journal(path)
    assert caught.value.fields["path"] == str(path)


def test_a_journal_of_a_newer_worker_is_refused_and_left_alone(path: Path) -> None:
    Journal(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ServiceError, match="schema 99"):
        Journal(path)


async def test_a_journal_of_an_older_worker_is_brought_up_to_this_one(path: Path) -> None:
    row = draft()
    with Journal(path) as journal:
        await journal.run(attachments.begin, row)
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE attachments DROP COLUMN netns_cookie")
        connection.execute("DROP TABLE missing")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    for _ in range(2):
        with Journal(path) as journal:
            assert await journal.run(attachments.by_id, row.attachment_id) == row


def test_a_folder_in_the_journals_place_is_named(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(ServiceError, match=str(path)):
        Journal(path)
