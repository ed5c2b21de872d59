"""What the tests of the CNI specification share: networks with gateways, and the parts of a result."""

import json
import uuid
from collections.abc import Mapping
from ipaddress import ip_interface
from typing import Any

from schemas.address import AddressList, AddressPage, AddressView
from schemas.network import NetworkCreate, NetworkView
from tests.acceptance.machines import Machine, Pod

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
NO_CONTAINER = {"CNI_CONTAINERID": "", "CNI_NETNS": "", "CNI_IFNAME": ""}
"""The variables of GC and STATUS, which name no container."""
ANNOTATIONS = "io.kubernetes.cri.pod-annotations"


def routed_network(machine: Machine, name: str, *gateways: str) -> NetworkView:
    """A network with a subnet for each gateway, such as `10.92.0.1/24`."""
    subnets = [{"cidr": str(ip_interface(text).network), "gateway": text.split("/")[0]} for text in gateways]
    body = {"request_id": uuid.uuid4().hex, "network": name, "driver": {"type": "bridge"}, "subnets": subnets}
    return machine.ask(NetworkCreate.model_validate(body), NetworkView)


def attached(machine: Machine, network: str) -> list[AddressView]:
    """The addresses of `network` that pods have now."""
    query = AddressList.model_validate({"network": network, "state": "attached"})
    return list(machine.ask(query, AddressPage).addresses)


def annotated(**annotations: str) -> dict[str, Any]:
    """The part of a configuration that carries a pod's annotations, `ip_net1` standing for `ip.net1`."""
    named = {f"moorage.io/{key.replace('_', '.')}": value for key, value in annotations.items()}
    return {"runtimeConfig": {ANNOTATIONS: named}}


def addresses_of(result: Mapping[str, Any]) -> list[str]:
    """The addresses of a result, without their prefix lengths."""
    return [str(ip["address"]).partition("/")[0] for ip in result["ips"]]


def seen(pod: Pod, *words: str) -> list[dict[str, Any]]:
    """What `ip -json` shows in the pod's namespace."""
    shown = pod.run("ip", "-json", *words)
    assert shown.returncode == 0, shown.stderr
    listed = json.loads(shown.stdout or "[]")
    return [entry for entry in listed if entry]


def interfaces_in(pod: Pod) -> set[str]:
    """The names of the pod's interfaces, the loopback apart."""
    return {link["ifname"] for link in seen(pod, "link")} - {"lo"}


def host_links(pod: Pod) -> set[str]:
    """The names of the links of the pod's node."""
    shown = pod.on_host("ip", "-json", "link")
    assert shown.returncode == 0, shown.stderr
    return {link["ifname"] for link in json.loads(shown.stdout)}
