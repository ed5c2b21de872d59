"""`moorage doctor` on a running stack: things are broken one at a time, and exactly that is found."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from allocator import schema
from allocator.database import Database
from broker import provisioning
from broker.management import Management
from cni.conflist import Wanted
from cni.installer import install
from cni.places import Places
from schemas.address import AddressList, AddressPage
from schemas.node import NodeList, NodePage
from tests.acceptance.machines import Machine, Pod, machine_of, until
from tests.database import patient_engine

pytestmark = [pytest.mark.acceptance, pytest.mark.netns, pytest.mark.xdist_group("doctor")]

Findings = dict[str, dict[str, Any]]


class Patient:
    """A machine and the doctor's view of it, from node-1 and with all that an administrator has."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine, self.folder = machine, folder
        servers = machine.stack.servers
        self.engine: Engine = patient_engine(servers.database_url)
        self.places = Places(folder / "bin", folder / "net.d", machine.node("node-1").socket)
        node = machine.node("node-1")
        self.environment = {
            "MOORAGE_AMQP_URL": machine.stack.console.url(),
            "MOORAGE_MANAGEMENT_URL": servers.management_url,
            "MOORAGE_DATABASE_URL": servers.database_url,
            "MOORAGE_NODE_NAME": "node-1",
            "MOORAGE_NODE_NETNS": str(node.host.path),
            "MOORAGE_NODE_DIR": str(machine.stack.state_dir / "nodes" / "node-1"),
            "MOORAGE_CNI_SOCKET": str(node.socket),
        }

    def doctor(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        places = ["--bin-dir", str(self.places.bin_dir), "--conf-dir", str(self.places.conf_dir)]
        return subprocess.run(
            [sys.executable, "-m", "compose.cli", "doctor", *places, *words],
            env={**os.environ, **self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def findings(self, *words: str, **environment: str) -> Findings:
        done = self.doctor("--output", "json", *words, **environment)
        assert done.stdout, done.stderr
        report = json.loads(done.stdout)
        assert done.returncode == (0 if report["ok"] else 1)
        return {item["check"]: item for item in report["findings"]}

    def unwell(self, *words: str, **environment: str) -> dict[str, str]:
        found = self.findings(*words, **environment)
        return {name: item["state"] for name, item in found.items() if item["state"] not in ("ok", "skip")}

    def until_unwell(self, **states: str) -> Findings:
        """The findings, once exactly these checks are unwell."""
        wanted = {name.replace("_", "-"): state for name, state in states.items()}

        def look() -> Findings | None:
            found = self.findings()
            said = {name: i["state"] for name, i in found.items() if i["state"] not in ("ok", "skip")}
            self.last = said
            return found if said == wanted else None

        self.last: dict[str, str] = {}
        try:
            return until(look, limit_s=60)
        except AssertionError as error:
            raise AssertionError(f"unwell were {self.last}, not {wanted}") from error

    def sql(self, statement: str, **values: object) -> None:
        """Change the database under everybody."""
        Database(self.engine).run(lambda connection: connection.execute(text(statement), values))


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory, shim: Path) -> Iterator[Patient]:
    folder = tmp_path_factory.mktemp("doctor")
    with machine_of(folder / "s", shim) as machine:
        made = Patient(machine, folder)
        made.places.bin_dir.mkdir()
        made.places.conf_dir.mkdir()
        install(
            made.places,
            Wanted("prod", None, "pods", "1.0.0", ()),
            shim,
            wait_s=20,
            force=False,
            progress=print,
        )
        try:
            yield made
        finally:
            made.engine.dispose()


@pytest.fixture(autouse=True)
def _well(patient: Patient) -> Iterator[None]:
    """Each test leaves nothing to complain of."""
    yield
    patient.until_unwell()


@contextmanager
def undone(undo: Callable[[], object]) -> Iterator[None]:
    try:
        yield
    finally:
        undo()


def test_a_stack_that_is_well_is_well_in_every_check(patient: Patient):
    found = patient.findings("--strict")
    assert [item for item in found.values() if item["state"] != "ok"] == []
    done = patient.doctor()
    assert done.returncode == 0
    secrets = [
        patient.environment[name].split(":")[2].split("@")[0] for name in patient.environment if "URL" in name
    ]
    assert not any(secret in done.stdout + done.stderr for secret in secrets)


def test_what_cannot_be_seen_is_skipped(patient: Patient):
    found = patient.findings(MOORAGE_MANAGEMENT_URL="", MOORAGE_DATABASE_URL="", MOORAGE_NODE_NAME="")
    skipped = {name for name, item in found.items() if item["state"] == "skip"}
    nodes = {"cni", "socket", "journal", "node-networks", "links"}
    assert skipped == {"permissions", "members", "alarms", "database", "databases", "pause"} | nodes
    assert {item["state"] for name, item in found.items() if name not in skipped} == {"ok"}


def test_a_queue_that_was_deleted(patient: Patient):
    servers = patient.machine.stack.servers
    queue = "moorage.events.operator.local"
    with Management(servers.management_url) as api:
        api.delete("queues", "/", queue)
    with undone(lambda: provisioning.enroll_client(servers.management_url, "local", "operator")):
        found = patient.until_unwell(topology="fail")
    assert found["topology"]["found"] == f"there is no queue {queue}"
    assert "`moorage client enroll`" in found["topology"]["advice"]


def test_a_queue_that_was_declared_otherwise(patient: Patient):
    servers = patient.machine.stack.servers
    with Management(servers.management_url) as api:
        api.delete("queues", "/", "moorage.node.node-2")
        api.put(
            "queues", "/", "moorage.node.node-2", body={"durable": True, "arguments": {"x-message-ttl": 1}}
        )

        def put_back() -> None:
            api.delete("queues", "/", "moorage.node.node-2")
            provisioning.enroll_node(servers.management_url, "node-2")

        with undone(put_back):
            found = patient.until_unwell(topology="fail")
    assert "queue moorage.node.node-2: " in found["topology"]["found"]
    assert "x-message-ttl is 1 and must be 60000" in found["topology"]["found"]


def test_a_user_that_may_do_less_than_enrolled(patient: Patient):
    servers = patient.machine.stack.servers
    with Management(servers.management_url) as api:
        granted = {"configure": "^$", "write": "^$", "read": "^$"}
        api.put("permissions", "/", "node.node-2", body=granted)
        with undone(lambda: provisioning.enroll_node(servers.management_url, "node-2")):
            found = patient.findings("--only", "permissions")["permissions"]
    assert found["state"] == "warn"
    assert "node.node-2 may write other things than enrolled; may read other things" in found["found"]
    assert "`moorage node enroll NAME`" in found["advice"]


def test_a_wrong_password(patient: Patient):
    url = patient.environment["MOORAGE_AMQP_URL"].replace("operator.local:", "operator.local:x")
    found = patient.findings("--only", "login,database", MOORAGE_AMQP_URL=url)
    assert {name: item["state"] for name, item in found.items()} == {"login": "fail", "database": "ok"}
    assert "--rotate gives a new password" in found["login"]["found"]


def test_an_allocator_that_is_stopped(patient: Patient):
    allocator = patient.machine.stack.allocator
    allocator.stop(20)
    with undone(lambda: (allocator.start(), patient.machine.wait_for_nodes())):
        found = patient.findings()
    assert found["consumers"]["state"] == "fail"
    assert "`moorage allocator`" in found["consumers"]["advice"]
    assert found["allocator"]["state"] == "fail"
    assert {found[name]["state"] for name in ("login", "topology", "database", "journal", "links")} == {"ok"}


def test_a_schema_that_is_older_and_an_allocator_that_waits_for_the_upgrade(patient: Patient):
    allocator = patient.machine.stack.allocator
    previous = f"{int(schema.head()) - 1:04}"
    allocator.stop(20)
    patient.sql("UPDATE alembic_version SET version_num = :v", v=previous)
    size = allocator.log.stat().st_size
    allocator.start()
    with undone(lambda: schema.upgrade(patient.engine)):
        until(lambda: "moorage db upgrade" in allocator.log.read_text()[size:])
        found = patient.findings("--only", "database,consumers")
        assert found["database"]["state"] == "fail"
        assert found["database"]["advice"].startswith("`moorage db upgrade`")
        assert found["consumers"]["state"] == "fail"  # it does not consume,
        assert allocator.pid is not None  # and does not end either
        assert patient.doctor("--only", "consumers").returncode == 1
    patient.machine.wait_for_nodes()  # it went on by itself
    assert allocator.pid is not None


def test_a_schema_that_is_newer(patient: Patient):
    patient.sql("UPDATE alembic_version SET version_num = '9999'")

    def put_back() -> None:
        patient.sql("UPDATE alembic_version SET version_num = :v", v=schema.head())

    with undone(put_back):
        found = patient.until_unwell(database="warn")
        assert patient.doctor().returncode == 0
        assert patient.doctor("--strict").returncode == 1
    assert "9999, newer than" in found["database"]["found"]


def test_a_link_that_the_journal_does_not_know(patient: Patient):
    node, name = patient.machine.node("node-1"), "mo0123456789abc"
    subprocess.run(["ip", "-n", node.host.netns, "link", "add", name, "type", "bridge"], check=True)
    delete = ["ip", "-n", node.host.netns, "link", "del", name]
    with undone(lambda: subprocess.run(delete, check=True)):
        found = patient.until_unwell(links="warn")
    assert found["links"]["found"] == f"not in the journal: {name}"
    assert f"`ip link del {name}`" in found["links"]["advice"]


def test_a_shim_that_is_gone(patient: Patient):
    content = patient.places.shim.read_bytes()
    patient.places.shim.unlink()

    def put_back() -> None:
        patient.places.shim.write_bytes(content)
        patient.places.shim.chmod(0o755)

    with undone(put_back):
        found = patient.findings()
    unwell = {name for name, item in found.items() if item["state"] != "ok"}
    assert unwell == {"cni executable", "cni worker"}
    assert found["cni executable"]["advice"] == "run `moorage cni install`"
    assert found["socket"]["state"] == "ok"  # the worker itself serves


def test_a_socket_that_others_may_write_to(patient: Patient):
    socket = patient.places.socket
    socket.chmod(0o666)
    with undone(lambda: socket.chmod(0o600)):
        found = patient.until_unwell(socket="warn")
    assert "chmod 0600" in found["socket"]["advice"]


def test_a_message_that_nobody_could_serve(patient: Patient):
    servers = patient.machine.stack.servers
    with Management(servers.management_url) as api:
        letter = {
            "properties": {"delivery_mode": 2},
            "routing_key": "",
            "payload": "{}",
            "payload_encoding": "string",
        }
        api.post("exchanges", "/", "moorage.dead", "publish", body=letter)
        with undone(lambda: api.delete("queues", "/", "moorage.dead", "contents")):
            found = patient.until_unwell(**{"dead_letters": "warn"})
    assert found["dead-letters"]["advice"].startswith("`moorage dead list`")


def test_a_node_that_is_lost_with_a_pod_on_it(patient: Patient):
    machine = patient.machine
    pod = Pod(machine, "shop/web-3", "node-2")
    pod.add()
    machine.node("node-2").process.stop(20)

    def bring_back() -> None:
        machine.node("node-2").process.start()
        machine.wait_for_nodes()
        pod.delete()
        until(lambda: not machine.ask(AddressList(network="prod", state="attached"), AddressPage).addresses)

    with undone(bring_back):
        until(
            lambda: any(node.state == "lost" for node in machine.ask(NodeList(), NodePage).nodes), limit_s=90
        )
        found = patient.until_unwell(nodes="warn", addresses="warn")
    assert found["nodes"]["advice"].count("moorage node fence node-2") == 1
    assert "of shop/web-3 on node-2 (prod)" in found["addresses"]["found"]
    assert "moorage node fence node-2" in found["addresses"]["advice"]


def test_a_worker_that_is_stopped(patient: Patient):
    worker = patient.machine.node("node-1").process
    worker.stop(20)
    with undone(lambda: (worker.start(), patient.machine.wait_for_nodes())):
        found = patient.findings("--only", "socket,journal,links,database")
    assert {name: item["state"] for name, item in found.items()} == {
        "database": "ok",
        "socket": "fail",
        "journal": "ok",
        "links": "ok",
    }
    assert "`moorage node`" in found["socket"]["advice"]


def test_a_network_that_a_node_cannot_make(patient: Patient):
    machine = patient.machine
    words = [
        "network",
        "create",
        "lab",
        "--driver",
        "macvlan",
        "--parent",
        "spare",
        "--subnet",
        "10.50.0.0/24",
    ]
    assert machine.command(*words, "--keep-going").returncode in (0, 1)
    with undone(lambda: machine.command("network", "delete", "lab", "--yes")):
        found = patient.until_unwell(networks="fail", **{"node_networks": "fail"})
    assert "lab" in found["networks"]["found"]
    assert "uplink_missing" in found["node-networks"]["found"]


def test_a_restore_that_was_declared(patient: Patient):
    machine = patient.machine
    command = [sys.executable, "-m", "compose.cli", "db"]
    environment = {**os.environ, **patient.environment}
    subprocess.run([*command, "restored"], env=environment, check=True)

    def resume() -> None:
        machine.wait_for_nodes()
        subprocess.run([*command, "resume"], env=environment, check=True)

    with undone(resume):
        machine.wait_for_nodes()
        found = patient.until_unwell(pause="warn")
    assert "every node was heard" in found["pause"]["found"]
    assert "`moorage db resume`" in found["pause"]["advice"]


def test_a_restore_that_nobody_declared(patient: Patient):
    """The database is put back to a minute ago under its nodes, and the allocator finds out by itself."""
    allocator = patient.machine.stack.allocator
    allocator.stop(20)
    patient.sql("UPDATE nodes SET last_seen = last_seen - INTERVAL 60 SECOND")
    allocator.start()

    def resume() -> None:
        environment = {**os.environ, **patient.environment}
        subprocess.run([sys.executable, "-m", "compose.cli", "db", "resume"], env=environment, check=True)

    with undone(resume):
        patient.machine.wait_for_nodes()
        found = patient.until_unwell(pause="fail")
    assert "nobody said so (node node-" in found["pause"]["found"]
    assert "`moorage db resume`" in found["pause"]["advice"]
