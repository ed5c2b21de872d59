"""docs/operations.md: three nodes at first, and two for what the doctor is shown with."""

import json
import uuid
from contextlib import closing

import pika

from allocator import schema
from broker import provisioning
from broker.topology import partition
from compose.hosts import prefix_of
from compose.services import ports
from compose.stack import start
from tests.acceptance.machines import until
from tests.docs.acting import enrolled, local_servers, lose, sql, until_lost
from tests.docs.preparing import NODES, before
from tests.docs.stage import Stage

NODES["docs/operations.md"] = 3
_STOP_S = 20


@before("docs/operations.md", "servers")
def _an_administrator(stage: Stage) -> None:
    stage.export(MOORAGE_DATABASE_URL=stage.stack.servers.database_url)


@before("docs/operations.md", "cni-install")
def _a_scratch_folder_for_the_plugin(stage: Stage) -> None:
    stage.must("unset MOORAGE_DATABASE_URL; mkdir bin net.d")
    stage.said |= {"/tmp/inst": str(stage.shell.folder), "/tmp/up": str(stage.stack.state_dir)}
    socket = stage.machine.node("node-1").socket
    stage.must(f'places="--bin-dir bin --conf-dir net.d --socket {socket}"')


@before("docs/operations.md", "dead-list")
def _three_letters_of_team_a(stage: Stage) -> None:
    stage.must("moorage network delete prod --yes")
    url = pika.URLParameters(enrolled(stage, "team-a", "producer"))
    whole = {"network": "prod", "pool": "web", "policy": "pinned", "size": 4}
    with closing(pika.BlockingConnection(url)) as connection:
        channel = connection.channel()
        for number, body in enumerate((whole, whole | {"pool": "api"}, {"network": "prod"})):
            request = json.dumps(body | {"request_id": f"letter-{number}"})
            properties = pika.BasicProperties(
                type="pool.create",
                content_type="application/json",
                delivery_mode=2,
                message_id=uuid.uuid4().hex,
                user_id="producer.team-a",
                headers={"schema_version": 2},
            )
            key = f"{partition('prod')}.pool.create"
            channel.basic_publish("moorage.requests", key, request.encode(), properties)


@before("docs/operations.md", "console-users")
def _a_console_of_ones_own(stage: Stage) -> None:
    port = ports.reserve(1, "console of docs/operations.md")
    address = f"127.0.0.1:{port.ports[0]}"
    port.release()
    stage.export(MOORAGE_TOKENS_FILE="tokens.json", MOORAGE_CONSOLE_LISTEN=address)


@before("docs/operations.md", "keep-going")
def _one_node_has_a_spare_interface(stage: Stage) -> None:
    spare = f"nsenter --net={stage.machine.node('node-2').host.path} ip link"
    stage.must(
        f"{spare} add spare type veth peer name beyond && {spare} set spare up && {spare} set beyond up"
    )


@before("docs/operations.md", "delete-held")
def _two_pods_on_tunnels(stage: Stage) -> None:
    stage.must("moorage network create tunnels --driver vxlan --vni 30 --subnet 10.30.0.0/24")
    stage.attach("shop/web-0", "node-1", "tunnels")
    stage.attach("shop/web-1", "node-2", "tunnels")


@before("docs/operations.md", "delete-pending")
def _a_pod_on_a_node_that_is_off(stage: Stage) -> None:
    stage.attach("shop/api-0", "node-3")
    stage.machine.node("node-3").process.kill()


@before("docs/operations.md", "delete-lost")
def _it_counts_as_lost(stage: Stage) -> None:
    until_lost(stage, "node-3")


@before("docs/operations.md", "quarantined")
def _a_machine_of_the_segment_has_an_address(stage: Stage) -> None:
    stage.must("moorage node fence node-3 --reason 'it is off' --yes")
    underlay = f"{prefix_of(stage.stack.state_dir)}-underlay"
    stage.must(f"ip -n {underlay} address add 10.40.0.1/24 dev switch && ip -n {underlay} link set switch up")
    stage.must("moorage network create lan --subnet 10.40.0.0/24 --uplink eth1")
    stage.attach("shop/api-1", "node-1", "lan")


@before("docs/operations.md", "ready")
def _metrics_of_the_allocator(stage: Stage) -> None:
    stage.said["127.0.0.1:9464"] = str(stage.stack.allocator_monitoring)


@before("docs/operations.md", "not-ready")
def _its_database_is_stopped(stage: Stage) -> None:
    local_servers(stage).mariadb.stop()


@before("docs/operations.md", "doctor")
def _a_node_is_lost_and_a_link_is_left(stage: Stage) -> None:
    stage.anew(2)
    stage.said |= {"/tmp/inst": str(stage.shell.folder), "/tmp/up": str(stage.stack.state_dir)}
    stage.must("moorage network create prod --subnet 10.77.0.0/24")
    pool = "moorage pool create prod web --policy pinned --range 10.77.0.10-10.77.0.19"
    stage.must(f"{pool} --owner 'shop/web-*'")
    node = stage.machine.node("node-1")
    places = f"--bin-dir {stage.shell.folder}/bin --conf-dir {stage.shell.folder}/net.d"
    stage.must(f"mkdir bin net.d; moorage cni install --network prod --socket {node.socket} {places}")
    stage.attach("shop/web-0", "node-2")
    stage.must(f"ip -n {node.host.netns} link add mo0123456789abc type veth peer name left")
    lose(stage, "node-2")
    stage.must("unset MOORAGE_MANAGEMENT_URL")
    stage.export(
        MOORAGE_DATABASE_URL=stage.stack.servers.database_url,
        MOORAGE_NODE_NAME="node-1",
        MOORAGE_NODE_NETNS=node.host.path,
        MOORAGE_NODE_DIR=node.socket.parent,
        MOORAGE_CNI_SOCKET=node.socket,
    )


@before("docs/operations.md", "upgrading")
def _the_schema_is_of_the_version_before(stage: Stage) -> None:
    stage.stack.allocator.stop(_STOP_S)
    older = f"{int(schema.head()) - 1:04}"
    sql(stage, "UPDATE alembic_version SET version_num = :older", older=older)
    servers = stage.stack.servers
    enrolled_anew = provisioning.enroll_allocator(servers.management_url, rotate=True)
    env = {"MOORAGE_AMQP_URL": enrolled_anew.amqp_url, "MOORAGE_DATABASE_URL": servers.database_url}
    log = stage.shell.folder / "allocator.log"
    start("allocator", ["allocator"], env, log, stage.undo)
    until(lambda: log.exists() and "waiting for the database" in log.read_text())


@before("docs/operations.md", "restoring")
def _every_node_is_there(stage: Stage) -> None:
    stage.machine.node("node-2").process.start()
    until(lambda: "lost" not in stage.must("moorage node list"))


@before("docs/operations.md", "rolled-back")
def _an_older_backup_was_put_in(stage: Stage) -> None:
    until(lambda: "lost" not in stage.must("moorage node list"))  # both were told of the epoch
    sql(stage, "UPDATE epochs SET epoch = 1, paused = 0")
