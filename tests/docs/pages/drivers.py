"""docs/drivers/."""

from tests.docs.preparing import NODES, before
from tests.docs.stage import Stage

NODES["docs/drivers/ipam.md"] = 3


@before("docs/drivers/bridge.md", "links")
def _three_pods_on_two_nodes(stage: Stage) -> None:
    three_pods(stage, "prod")


def three_pods(
    stage: Stage, network: str, *ranges: str, nodes: tuple[str, str, str] = ("node-1", "node-1", "node-2")
) -> None:
    """10.20.0.10 to .12 of shop/web-0 to -2 on these nodes, and the first knows where the others are."""
    pool = f"moorage pool create {network} web --policy pinned --owner 'shop/*'"
    named = " ".join(f"--range {each}" for each in ("10.20.0.10-10.20.0.12", *ranges))
    stage.must(f"{pool} {named}")
    for number, node in enumerate(nodes):
        stage.must(f"moorage address reserve {network} shop/web-{number} --address 10.20.0.1{number}")
        stage.attach(f"shop/web-{number}", node, network)
    for other in ("10.20.0.11", "10.20.0.12"):
        assert stage.pods["shop/web-0"].reaches(other)


@before("docs/drivers/bridge.md", "gateway")
def _no_other_network_has_the_gateway(stage: Stage) -> None:
    stage.must("moorage network delete prod --yes --force --reason 'the page goes on'")


@before("docs/drivers/bridge.md", "masquerading")
def _a_masqueraded_network_of_two_families(stage: Stage) -> None:
    stage.must("moorage network delete inner --yes")
    subnets = "--subnet 10.20.0.0/24,gateway=10.20.0.1 --subnet fd00:20::/64,gateway=fd00:20::1"
    for node in stage.stack.nodes:
        forwarding = "sysctl -qw net.ipv6.conf.all.forwarding=1"
        stage.must(f"nsenter --net={node.host.path} {forwarding}")
    stage.must(f"moorage network create prod {subnets} --gateway-on-node --masquerade")
    stage.attach("shop/web-0", "node-1")


@before("docs/drivers/macvlan.md", "links")
def _pods_beside_the_parent(stage: Stage) -> None:
    stage.must("moorage network delete lan --yes")
    for number, node in enumerate(stage.stack.nodes, 1):
        inside = f"nsenter --net={node.host.path} ip"
        stage.must(f"{inside} link set eth0 down; {inside} address flush dev eth0")
        stage.must(f"{inside} address add 192.168.77.{number}/24 dev eth1")
    options = "--driver macvlan --parent eth1 --service-cidr 10.96.0.0/12"
    subnets = "--subnet 10.20.0.0/24,gateway=10.20.0.1 --subnet fd00:20::/64"
    stage.must(f"moorage network create lan {options} {subnets}")
    three_pods(stage, "lan", "fd00:20::a-fd00:20::c")


@before("docs/drivers/vxlan.md", "links")
def _tunnels_to_two_nodes(stage: Stage) -> None:
    stage.anew(3)
    stage.must("moorage network create prod --driver vxlan --vni 42 --subnet 10.20.0.0/24")
    three_pods(stage, "prod", nodes=("node-1", "node-2", "node-3"))
