"""Provisioning and enrolment: what RabbitMQ then lets whom do, and how often it may be repeated."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aio_pika
import pytest
import typer
from aio_pika.exceptions import ChannelClosed, ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused
from typer.testing import CliRunner

from broker import commands, provisioning, topology
from broker.management import Management
from compose.services.local import LocalServices
from schemas.errors import Code, ServiceError
from schemas.message import Request
from schemas.network import NetworkCreate, NetworkList
from schemas.node import NodeHeartbeat, NodeReport, NodeSync
from tests.integration.brokering import Broker, hand, provisioned, release

pytestmark = pytest.mark.services

SESSION = "00000000-0000-0000-0000-000000000001"
CREATE = NetworkCreate.model_validate(
    {"request_id": "r1", "network": "prod", "subnets": [{"cidr": "10.20.0.0/24"}]}
)
SYNC = NodeSync.model_validate({"node": "n1", "session": SESSION})
REPORT = NodeReport.model_validate(
    {"node": "n1", "session": SESSION, "network": "prod", "version": 1, "result": "ready"}
)
BEAT = NodeHeartbeat.model_validate({"node": "n1", "session": SESSION})


@pytest.fixture(scope="module")
def broker(services: LocalServices) -> Iterator[Broker]:
    with provisioned(services.management_url, services.amqp_url) as made:
        yield made


@pytest.mark.parametrize("request_", [release(), SYNC, REPORT, BEAT], ids=lambda r: r.NAME)
async def test_a_node_may_send_its_own_kinds_of_requests(broker: Broker, request_: Request) -> None:
    async with hand(broker.node) as node:
        await node.publish(request_)


@pytest.mark.parametrize("request_", [CREATE, NetworkList()], ids=lambda r: r.NAME)
async def test_a_node_may_send_no_other_kind(broker: Broker, request_: Request) -> None:
    async with hand(broker.node) as node:
        with pytest.raises(ChannelAccessRefused):
            await node.publish(request_)


@pytest.mark.parametrize("key", ["4.address.release", "0.address.release.x", "x.node.heartbeat", "#"])
async def test_a_key_that_only_resembles_an_allowed_one_is_refused(broker: Broker, key: str) -> None:
    async with hand(broker.node) as node:
        with pytest.raises(ChannelAccessRefused):
            await node.publish(release(), key=key)


@pytest.mark.parametrize("user", ["node.n2", "operator.test", "allocator"])
async def test_nobody_publishes_in_another_users_name(broker: Broker, user: str) -> None:
    async with hand(broker.node) as node:
        with pytest.raises(ChannelPreconditionFailed):
            await node.publish(release(), user_id=user)


@pytest.mark.parametrize("who", ["node", "producer", "operator"])
@pytest.mark.parametrize("key", ["moorage.node.n1", "moorage.allocator.0", "moorage.dead"])
async def test_nobody_but_the_allocator_uses_the_default_exchange(broker: Broker, who: str, key: str) -> None:
    async with hand(getattr(broker, who)) as user:
        with pytest.raises(ChannelAccessRefused):
            await user.publish(release(), exchange="", key=key)


@pytest.mark.parametrize(("who", "exchange"), [("node", "moorage.events"), ("producer", "moorage.dead")])
async def test_events_and_dead_letters_cannot_be_forged(broker: Broker, who: str, exchange: str) -> None:
    async with hand(getattr(broker, who)) as user:
        with pytest.raises(ChannelAccessRefused):
            await user.publish(release(), exchange=exchange, key="address.freed")


@pytest.mark.parametrize("who", ["node", "producer", "operator", "allocator"])
async def test_services_declare_and_bind_nothing(broker: Broker, who: str) -> None:
    for name in ("mine", topology.node_queue("n1"), topology.allocator_queue(0)):
        async with hand(getattr(broker, who)) as user:
            with pytest.raises(ChannelAccessRefused):
                await user.channel.declare_queue(name, durable=True)
    async with hand(getattr(broker, who)) as user:
        with pytest.raises(ChannelAccessRefused):
            await user.channel.declare_exchange("mine")
    async with hand(getattr(broker, who)) as user:
        queue = await user.channel.get_queue(topology.node_queue("n1"), ensure=False)
        with pytest.raises(ChannelAccessRefused):
            await queue.bind(topology.REQUESTS_EXCHANGE, "#")


@pytest.mark.parametrize(
    ("who", "queue"),
    [
        ("node", "moorage.node.n2"),
        ("node", "moorage.allocator.0"),
        ("node", "moorage.dead"),
        ("producer", "moorage.dead"),
        ("producer", "moorage.queries"),
        ("operator", "moorage.node.n1"),
        ("operator", "moorage.allocator.0"),
        ("allocator", "moorage.dead"),
    ],
)
async def test_nobody_reads_what_is_not_theirs(broker: Broker, who: str, queue: str) -> None:
    provisioning.enroll_node(broker.management_url, "n2", vhost=broker.vhost, password="secret")
    async with hand(getattr(broker, who)) as user:
        source = await user.channel.get_queue(queue, ensure=False)
        with pytest.raises(ChannelClosed):
            await source.consume(user.answers.put)


async def test_a_nodes_name_with_dots_gives_it_no_other_nodes_queue(broker: Broker) -> None:
    known: dict[str, Any] = {"vhost": broker.vhost, "password": "secret"}
    dotted = provisioning.enroll_node(broker.management_url, "a.b", **known).amqp_url
    provisioning.enroll_node(broker.management_url, "axb", **known)
    async with hand(dotted) as user:
        mine = await user.channel.get_queue(topology.node_queue("a.b"), ensure=False)
        await mine.consume(user.answers.put)
        other = await user.channel.get_queue(topology.node_queue("axb"), ensure=False)
        with pytest.raises(ChannelAccessRefused):
            await other.consume(user.answers.put)


def test_provisioning_again_changes_nothing_and_does_not_wait(broker: Broker) -> None:
    told: list[str] = []
    again = provisioning.provision(
        broker.management_url, vhost=broker.vhost, settle_s=60, progress=told.append
    )
    assert again.created == ()
    assert len(again.existing) == len(topology.shared_queues())
    assert "0 of 7 queues new" in told[-1]


def test_a_queue_of_another_form_is_told_with_its_differences(services: LocalServices) -> None:
    url, vhost = services.management_url, "test other form"
    provisioning.create_vhost(url, vhost)
    try:
        arguments = {"x-queue-type": "quorum", "x-message-ttl": 7, "x-max-length-bytes": 5}
        with Management(url) as api:
            api.put("queues", vhost, topology.QUERIES_QUEUE, body={"durable": True, "arguments": arguments})
        with pytest.raises(ServiceError) as caught:
            provisioning.provision(url, vhost=vhost, settle_s=0)
    finally:
        provisioning.delete_vhost(url, vhost)
    message = caught.value.message
    assert caught.value.code == Code.NOT_PROVISIONED
    assert "queue moorage.queries" in message
    assert "x-message-ttl is 7 and must be 15000" in message
    assert "x-max-length is not set and must be 10000" in message
    assert "x-max-length-bytes is 5 and must not be set" in message
    assert "delete" in message


def test_enrolling_again_keeps_the_password_and_rotating_changes_it(broker: Broker) -> None:
    def enroll(**options: Any) -> provisioning.Enrolled:
        return provisioning.enroll_client(
            broker.management_url, "again", "producer", vhost=broker.vhost, **options
        )

    try:
        first, second, third = enroll(), enroll(), enroll(rotate=True)
    finally:
        with Management(broker.management_url) as api:
            api.delete("users", "producer.again")
    assert first.password is not None
    assert second.password is None
    assert "***" in second.amqp_url
    assert third.password not in (None, first.password)
    assert first.password not in repr(first)


async def test_permissions_that_somebody_widened_are_set_right_again(broker: Broker) -> None:
    with Management(broker.management_url) as api:
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        api.put("permissions", broker.vhost, "node.n1", body=everything)
    provisioning.enroll_node(broker.management_url, "n1", vhost=broker.vhost)
    async with hand(broker.node) as node:
        with pytest.raises(ChannelAccessRefused):
            await node.publish(release(), exchange="", key="moorage.dead")


@pytest.mark.parametrize("name", ["", "UPPER", "a b", "a/b", "-a", "a" * 201, "*", "ü"])
def test_a_name_that_no_node_can_have_is_refused(services: LocalServices, name: str) -> None:
    with pytest.raises(ServiceError) as caught:
        provisioning.enroll_node(services.management_url, name)
    assert caught.value.code == Code.INVALID_REQUEST


def test_what_is_wrong_with_the_management_api_is_told_without_its_password(services: LocalServices) -> None:
    right = services.management_url
    wrong_password = right[: right.index("@") - 4] + "0000" + right[right.index("@") :]
    amqp_port = services.amqp_url.replace("amqp://", "http://").rstrip("/")
    password = right.split(":")[2].split("@")[0]
    cases = {
        wrong_password: Code.SENDER_FORBIDDEN,
        amqp_port: None,
        right[: right.rindex(":")] + ":1": Code.UNAVAILABLE,
        "localhost:15672": Code.NOT_PROVISIONED,
    }
    for url, code in cases.items():
        with pytest.raises(ServiceError) as caught:
            provisioning.provision(url, settle_s=0)
        assert password not in str(caught.value)
        assert caught.value.code == code or code is None


async def test_a_virtual_host_that_is_missing_is_told(services: LocalServices) -> None:
    with pytest.raises(ServiceError) as caught:
        provisioning.provision(services.management_url, vhost="nowhere", settle_s=0)
    assert caught.value.code == Code.NOT_PROVISIONED


def _run(broker: Broker, *words: str) -> Any:
    app, node_app = typer.Typer(), typer.Typer()

    @app.callback()
    def settings(ctx: typer.Context) -> None:
        ctx.obj = SimpleNamespace(management=broker.management_url)

    @node_app.callback()
    def nodes() -> None: ...

    commands.register(app, node_app)
    app.add_typer(node_app, name="node")
    return CliRunner().invoke(app, [*words, "--vhost", broker.vhost])


async def test_enrolling_a_node_writes_credentials_that_only_their_owner_reads(
    broker: Broker, tmp_path: Path
) -> None:
    target = tmp_path / "credentials"
    result = _run(broker, "node", "enroll", "n9", "--rotate", "--write", str(target), "--output", "json")
    assert result.exit_code == 0, result.output
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    written = dict(line.split("=", 1) for line in target.read_text().splitlines())
    assert written["MOORAGE_NODE_NAME"] == "n9"
    assert json.loads(result.stdout) == {"user": "node.n9", "file": str(target)}
    connection = await aio_pika.connect(written["MOORAGE_AMQP_URL"], timeout=5)
    await connection.close()


def test_a_password_that_is_kept_cannot_be_written(broker: Broker, tmp_path: Path) -> None:
    target = tmp_path / "credentials"
    result = _run(broker, "node", "enroll", "n1", "--write", str(target))
    assert isinstance(result.exception, ServiceError)
    assert "--rotate" in result.exception.message
    assert not target.exists()


def test_nothing_is_changed_for_a_file_that_cannot_be_written(broker: Broker) -> None:
    result = _run(broker, "client", "enroll", "nobody", "--role", "producer", "--write", "/nowhere/file")
    assert isinstance(result.exception, ServiceError)
    with Management(broker.management_url) as api:
        assert api.get("users", "producer.nobody") is None


def test_provisioning_by_command_tells_the_allocators_url_once(broker: Broker) -> None:
    result = _run(broker, "broker", "provision", "--output", "json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["user"] == "allocator"
    assert told["password"] is None, "it exists and keeps it"
    assert len(told["existing"]) == 7


def test_a_role_that_does_not_exist_is_refused_by_the_command_line(broker: Broker) -> None:
    result = _run(broker, "client", "enroll", "x", "--role", "node")
    assert result.exit_code == 2


def test_without_a_management_url_the_setting_is_named(broker: Broker) -> None:
    unset = broker.__class__(**{**broker.__dict__, "management_url": ""})
    result = _run(unset, "broker", "provision")
    assert isinstance(result.exception, ServiceError)
    assert "MOORAGE_MANAGEMENT_URL" in result.exception.message
