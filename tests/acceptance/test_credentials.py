"""TLS from end to end, and a node's credentials rotated and revoked under pods that go on."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pymysql
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from allocator.database import open_engine
from broker.inspection import log_in
from broker.login import Login, Trust
from broker.management import Management
from compose.settings import Settings
from compose.stack import running_stack
from schemas.errors import Code, ServiceError
from tests.acceptance.machines import Machine, Pod, until
from tests.tls_services import NAMED, UNNAMED, TlsServices, tls_services

pytestmark = [
    pytest.mark.services,
    pytest.mark.netns,
    pytest.mark.acceptance,
    pytest.mark.xdist_group("credentials"),
]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServices]:
    with tls_services(tmp_path_factory.mktemp("t")) as running:
        yield running


@pytest.fixture(scope="module")
def settings(servers: TlsServices) -> Settings:
    return Settings.model_validate(servers.settings())


@pytest.fixture(scope="module")
def machine(settings: Settings, tmp_path_factory: pytest.TempPathFactory, shim: Path) -> Iterator[Machine]:
    names = ["node-1", "node-2"]
    with (
        running_stack(settings, tmp_path_factory.mktemp("c"), names, print) as stack,
        ExitStack() as undo,
    ):
        made = Machine(stack, shim, undo)
        made.wait_for_nodes()
        made.network("prod", "10.77.0.0/24")
        yield made


def connections(settings: Settings) -> list[dict[str, object]]:
    """The AMQP connections that RabbitMQ tells of, some seconds late."""
    with Management(settings.management) as api:  # type: ignore[arg-type]
        return [each for each in api.get("connections") if each.get("protocol", "").startswith("AMQP")]


def test_all_that_the_product_says_to_its_servers_is_encrypted(machine: Machine, settings: Settings):
    pod = Pod(machine, "shop/web-0", "node-1")
    pod.add()
    users = {"allocator", "node.node-1", "node.node-2"}
    until(lambda: users <= {str(each.get("user")) for each in connections(settings)}, 30)
    assert all(each["ssl"] for each in connections(settings))
    engine = open_engine(settings.database)  # type: ignore[arg-type]
    try:
        with engine.connect() as connection:
            (cipher,) = connection.execute(text("SHOW STATUS LIKE 'Ssl_cipher'")).all()
    finally:
        engine.dispose()
    assert cipher[1]
    pod.delete()


def refusal(login: Login) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        asyncio.run(log_in(login))
    return caught.value


def test_a_broker_under_a_name_that_its_certificate_lacks_is_refused(machine: Machine):
    right = machine.stack.console
    asyncio.run(log_in(right))
    wrong = replace(right, source=str(right.source).replace(NAMED, UNNAMED))
    error = refusal(wrong)
    assert error.code == Code.NOT_PROVISIONED
    assert "IP address mismatch" in error.message
    assert "MOORAGE_AMQP_CA" in error.message


def test_a_broker_whose_authority_is_unknown_is_refused(machine: Machine, servers: TlsServices):
    right = machine.stack.console
    for authorities in (str(servers.stranger), None):
        error = refusal(replace(right, trust=replace(right.trust, authorities=authorities)))
        assert error.code == Code.NOT_PROVISIONED
        assert "certificate" in error.message and "MOORAGE_AMQP_CA" in error.message


def test_whoever_shows_no_certificate_is_refused_where_the_broker_wants_one(machine: Machine):
    right = machine.stack.console
    error = refusal(replace(right, trust=Trust(right.trust.authorities)))
    assert error.code in (Code.NOT_PROVISIONED, Code.UNAVAILABLE)


def test_tls_with_a_port_that_speaks_none_is_told(machine: Machine, settings: Settings):
    management = settings.management
    assert management is not None
    with Management(management) as api:
        plain = [item["port"] for item in api.get("overview")["listeners"] if item["protocol"] == "amqp"]
    right = machine.stack.console
    port = str(right.source).rpartition("@")[2].partition(":")[2].partition("/")[0]
    error = refusal(replace(right, source=str(right.source).replace(f":{port}/", f":{plain[0]}/")))
    assert "5671" in error.message or "no answer" in error.message


def database_refusal(login: Login) -> str:
    engine = open_engine(login, connect_s=3)
    try:
        with pytest.raises(OperationalError) as caught, engine.connect():
            pass
    finally:
        engine.dispose()
    return str(caught.value.orig)


def test_a_database_under_another_name_or_of_another_authority_is_refused(
    settings: Settings, servers: TlsServices
):
    right = settings.database
    assert right is not None
    wrong = replace(right, source=str(right.source).replace(NAMED, UNNAMED))
    assert "IP address mismatch" in database_refusal(wrong)
    strange = replace(right, trust=replace(right.trust, authorities=str(servers.stranger)))
    assert "certificate verify failed" in database_refusal(strange)


def test_a_management_api_of_another_authority_is_refused(settings: Settings, servers: TlsServices):
    right = settings.management
    assert right is not None
    strange = replace(right, trust=replace(right.trust, authorities=str(servers.stranger)))
    with Management(strange) as api, pytest.raises(ServiceError, match="MOORAGE_AMQP_CA"):
        api.get("overview")


def test_a_plain_connection_to_the_database_is_not_made(servers: TlsServices):
    """The server wants TLS; without our settings PyMySQL would be refused."""
    with pytest.raises(pymysql.OperationalError):
        pymysql.connect(
            host=NAMED,
            port=int(servers.database_url.rpartition(":")[2].split("/")[0]),
            user="moorage",
            password="x",
            ssl_disabled=True,
        )


def moorage(settings: Settings, *words: str) -> str:
    """What the command prints that must succeed."""
    import os
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "compose.cli", *words],
        env={
            **os.environ,
            **settings.trust_variables(),
            "MOORAGE_MANAGEMENT_URL": settings.management_url or "",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_nodes_password_is_rotated_under_its_pods(machine: Machine, settings: Settings):
    """Its worker goes on with the new one, from the file, without a restart; pods notice nothing."""
    here, there = Pod(machine, "shop/web-1", "node-1"), Pod(machine, "shop/web-2", "node-1")
    here.add()
    address = str(there.add()["ips"][0]["address"]).split("/")[0]
    node = machine.node("node-1")
    worker, file = node.process.pid, machine.stack.state_dir / "nodes" / "node-1" / "amqp_url"
    before = file.read_text()

    said = moorage(settings, "node", "enroll", "node-1", "--rotate", "--disconnect", "--url-file", str(file))
    assert str(file) in said and file.read_text() not in (before, "")
    assert file.read_text().strip() not in said
    assert here.reaches(address)
    refused = refusal(replace(machine.stack.console, source=before.strip()))
    assert refused.code == Code.NOT_PROVISIONED

    after = Pod(machine, "shop/web-3", "node-1")
    until(lambda: after.call("ADD")[0] == 0, 30)
    assert node.process.pid == worker
    assert here.reaches(address)
    for pod in (here, there, after):
        pod.delete()


def test_a_revoked_node_gets_nothing_more_and_its_pods_keep_what_they_have(
    machine: Machine, settings: Settings
):
    here, there = Pod(machine, "shop/web-4", "node-2"), Pod(machine, "shop/web-5", "node-2")
    here.add()
    address = str(there.add()["ips"][0]["address"]).split("/")[0]
    said = moorage(settings, "node", "revoke", "node-2")
    assert "node.node-2: revoked" in said

    def refused() -> bool:
        status, answer = Pod(machine, "shop/web-6", "node-2").call("ADD")
        return status != 0 and answer["code"] == 11

    until(refused, 30)
    assert here.reaches(address)
    here.delete()
    file = machine.stack.state_dir / "nodes" / "node-2" / "amqp_url"
    moorage(settings, "node", "enroll", "node-2", "--url-file", str(file))
    until(lambda: Pod(machine, "shop/web-7", "node-2").call("ADD")[0] == 0, 40)
    there.delete()


def test_no_password_is_in_an_argument_or_a_log(machine: Machine):
    stack = machine.stack
    files = [*stack.state_dir.rglob("*_url"), *stack.state_dir.rglob("*.log")]
    passwords = {
        file.read_text().partition("@")[0].rpartition(":")[2] for file in files if file.name.endswith("_url")
    }
    assert len(passwords) >= 3
    logs = "".join(file.read_text(errors="replace") for file in files if file.suffix == ".log")
    assert "***" in logs
    for password in passwords:
        assert password not in logs
    for process in (stack.allocator, *(node.process for node in stack.nodes)):
        for part in ("cmdline", "environ"):
            shown = Path(f"/proc/{process.pid}/{part}").read_bytes().decode(errors="replace")
            assert not any(password in shown for password in passwords), (process.name, part)
