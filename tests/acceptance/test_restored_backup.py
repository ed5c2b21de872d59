"""An older backup of the database under a running stack, and nobody says `moorage db restored`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from allocator import restoring
from allocator.database import Database
from schemas.address import AddressList, AddressPage
from tests.acceptance.machines import Machine, Pod, machine_of, until
from tests.database import patient_engine
from tests.integration.test_allocator_restoring import Backup

pytestmark = [pytest.mark.acceptance, pytest.mark.netns, pytest.mark.xdist_group("restored")]

TRY_AGAIN = 11


@pytest.fixture
def machine(tmp_path: Path, shim: Path) -> Iterator[Machine]:
    with machine_of(tmp_path, shim) as made:
        yield made


@pytest.fixture
def engine(machine: Machine) -> Iterator[Engine]:
    made = patient_engine(machine.stack.servers.database_url)
    yield made
    made.dispose()


def address_of(answer: dict) -> str:
    return str(answer["ips"][0]["address"]).partition("/")[0]


def serves(pod: Pod) -> bool:
    """Whether the pod's node would attach pods now."""
    return pod.call("STATUS", {"cniVersion": "1.1.0"})[0] == 0


def is_paused(engine: Engine) -> restoring.State | None:
    def work(connection: Connection) -> restoring.State:
        return restoring.state(connection)

    found = Database(engine).run(work)
    return found if found.paused else None


def test_an_undeclared_restore_gives_no_address_twice(machine: Machine, engine: Engine):
    kept = Pod(machine, "shop/web-0", "node-1")
    kept_address = address_of(kept.add())
    backup = Backup(engine)
    with engine.begin() as connection:  # it is an hour old
        connection.execute(text("UPDATE saved_nodes SET last_seen = last_seen - INTERVAL 1 HOUR"))
    unknown = [Pod(machine, f"shop/batch-{n}", f"node-{n}") for n in (1, 2)]
    held = {address_of(pod.add()) for pod in unknown}

    machine.stack.allocator.stop(20)
    until(lambda: not any(serves(pod) for pod in unknown), limit_s=60)
    backup.restore()
    machine.stack.allocator.start()

    later = [Pod(machine, f"shop/late-{n}", f"node-{n}") for n in (1, 2)]
    for pod in later:  # whether the node is back already or not
        status, answer = pod.call("ADD")
        assert (status, answer["code"]) == (1, TRY_AGAIN), answer
    machine.wait_for_nodes()
    assert is_paused(engine)

    def adopted() -> bool:
        page = machine.ask(AddressList(network="prod", state="attached"), AddressPage)
        return {str(view.address) for view in page.addresses} == held | {kept_address}

    until(adopted, limit_s=30)
    environment = {**os.environ, "MOORAGE_DATABASE_URL": machine.stack.servers.database_url}
    subprocess.run([sys.executable, "-m", "compose.cli", "db", "resume"], env=environment, check=True)
    given = {address_of(pod.add()) for pod in later}
    assert len(given) == 2
    assert not given & (held | {kept_address})
    for pod in [kept, *unknown, *later]:
        pod.delete()
