"""How each error code that shows outside is brought about with real parts: one function a code."""

import json
import os
import subprocess
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cni.errors import SpecCode
from node_worker.netlink import simulated
from schemas.address import AddressQuarantine
from schemas.message import Done
from schemas.network import NetworkCreate, NetworkView
from schemas.pool import PoolCreate, PoolView
from tests.acceptance.machines import Machine, Pod, until
from tests.acceptance.runtime_calls import NO_CONTAINER, addresses_of, annotated, attached, routed_network

NETWORK = "errors"
IPV6_NETWORK, IPV6_GATEWAY = "errors-six", "fd00:94::1"
_CONF = {"cniVersion": "1.0.0", "name": "pods", "type": "moorage", "network": NETWORK}
Answer = tuple[int, dict[str, Any]]


class Scene:
    """A machine with a network of several pools, and the pods of one provocation."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.pods: list[Pod] = []

    def pod(self, owner: str = "bank/api-0", network: str = NETWORK) -> Pod:
        """A sandbox that `clear` ends."""
        self.pods.append(Pod(self.machine, owner, "node-1", network))
        return self.pods[-1]

    def address(self, pod: Pod, **annotations: str) -> str:
        """The address of an ADD that must succeed."""
        status, result = pod.call("ADD", annotated(**annotations))
        assert status == 0, result
        return addresses_of(result)[0]

    def asked(self, owner: str, **annotations: str) -> Answer:
        """What a pod of `owner` is told that wishes for this."""
        return self.pod(owner).call("ADD", annotated(**annotations))

    def clear(self) -> None:
        """Delete every pod, also those whose ADD failed."""
        for pod in self.pods:
            pod.delete()


def set_the_scene(machine: Machine) -> None:
    """Make the network and its pools."""
    routed_network(machine, NETWORK, "10.94.0.1/24")
    routed_network(machine, IPV6_NETWORK, f"{IPV6_GATEWAY}/64")
    _pool(machine, "web", "10.94.0.10-10.94.0.29")
    _pool(machine, "tiny", "10.94.0.30")
    _pool(machine, "mac", "10.94.0.40-10.94.0.49", allow_mac=True)


def _pool(machine: Machine, name: str, addresses: str, **more: Any) -> None:
    body = {"request_id": uuid.uuid4().hex, "network": NETWORK, "pool": name, "policy": "pinned"}
    body |= {"ranges": [addresses], "owners": [f"shop/{name}-*"]}
    machine.ask(PoolCreate.model_validate(body | more), PoolView)


def _run(pod: Pod, *command: str | Path, **stdin: Any) -> Answer:
    """An ADD by the executable with another standard input, or started by another command."""
    variables = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": pod.container_id,
        "CNI_NETNS": str(simulated.netns_path(pod.netns)),
        "CNI_IFNAME": "eth0",
        "MOORAGE_CNI_SOCKET": str(pod.node.socket),
    }
    done = subprocess.run(
        [*command, pod.shim], env=variables, capture_output=True, timeout=30, check=False, **stdin
    )
    return done.returncode, json.loads(done.stdout)


def incompatible_version(scene: Scene) -> Answer:
    return scene.pod().call("ADD", {"cniVersion": "9.9.9"})


def invalid_environment(scene: Scene) -> Answer:
    return scene.pod().call("ADD", CNI_IFNAME="a/b")


def io_failure(scene: Scene) -> Answer:
    folder = os.open("/", os.O_RDONLY)
    try:
        return _run(scene.pod(), stdin=folder)
    finally:
        os.close(folder)


def decoding_failure(scene: Scene) -> Answer:
    return _run(scene.pod(), input=b'{"cniVersion": "1.0.0"')


def invalid_config(scene: Scene) -> Answer:
    return scene.pod().call("ADD", {"network": "Not A Name"})


def try_again_later(scene: Scene) -> Answer:
    """What was just freed cools down before a stranger may have it."""
    first = scene.pod("bank/first-0")
    address = scene.address(first)
    first.delete()
    until(lambda: address not in {str(view.address) for view in attached(scene.machine, NETWORK)})
    return scene.asked("bank/second-0", ip=address)


def not_available(scene: Scene) -> Answer:
    return scene.pod(network="nowhere").call("STATUS", {"cniVersion": "1.1.0"}, **NO_CONTAINER)


def internal(scene: Scene) -> Answer:
    """An answer that no frame can carry: each letter of prevResult becomes six when it is printed."""
    conf = _CONF | {"prevResult": {"big": "é" * 300_000}}
    return _run(scene.pod(), input=json.dumps(conf, ensure_ascii=False).encode())


def network_unknown(scene: Scene) -> Answer:
    return scene.pod(network="nowhere").call("ADD")


def pool_unknown(scene: Scene) -> Answer:
    return scene.asked("bank/api-0", pool="nope")


def owner_forbidden(scene: Scene) -> Answer:
    return scene.asked("bank/api-0", pool="web")


def exhausted(scene: Scene) -> Answer:
    scene.address(scene.pod("shop/tiny-0"))
    return scene.asked("shop/tiny-1")


def attachment_released(scene: Scene) -> Answer:
    pod = scene.pod()
    result = pod.add()
    pod.delete()
    return pod.call("CHECK", {"prevResult": result})


def address_unknown(scene: Scene) -> Answer:
    return scene.asked("bank/api-0", ip="10.9.0.1")


def interface_exists(scene: Scene) -> Answer:
    pod = scene.pod()
    pod.add()
    return pod.call("ADD")


def netns_unusable(scene: Scene) -> Answer:
    return scene.pod().call("ADD", CNI_NETNS="/run/netns/never-made")


def kernel_refused(scene: Scene) -> Answer:
    """A gateway that is the pod's own address is none."""
    pod = scene.pod(network=IPV6_NETWORK)
    done = pod.run("ip", "address", "add", f"{IPV6_GATEWAY}/128", "dev", "lo")
    assert done.returncode == 0, done.stderr
    return pod.call("ADD")


def endpoint_broken(scene: Scene) -> Answer:
    pod = scene.pod()
    result = pod.add()
    assert pod.run("ip", "address", "flush", "dev", "eth0").returncode == 0
    return pod.call("CHECK", {"prevResult": result})


def sender_forbidden(scene: Scene) -> Answer:
    """Nobody, who for once may open every file, and so the socket."""
    as_nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    may_open = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    return _run(scene.pod(), *as_nobody, *may_open, input=json.dumps(_CONF).encode())


def pool_unsuitable(scene: Scene) -> Answer:
    return scene.asked("shop/web-0", pool="web", ip="10.94.0.200")


def owner_pinned(scene: Scene) -> Answer:
    pod = scene.pod("shop/web-1")
    scene.address(pod, ip="10.94.0.11")
    pod.delete()
    return scene.asked("shop/web-1", ip="10.94.0.12")


def address_in_use(scene: Scene) -> Answer:
    return scene.asked("shop/web-3", ip=scene.address(scene.pod("shop/web-2")))


def address_quarantined(scene: Scene) -> Answer:
    pod = scene.pod("shop/web-4")
    address = scene.address(pod)
    (view,) = (view for view in attached(scene.machine, NETWORK) if str(view.address) == address)
    body = {"network": NETWORK, "node": "node-1", "attachment_id": view.attachment_id, "address": address}
    scene.machine.ask(AddressQuarantine.model_validate(body | {"reason": "heard twice"}), Done)
    return scene.asked("shop/web-4")


def mac_forbidden(scene: Scene) -> Answer:
    return scene.asked("shop/web-5", mac="02:00:00:00:00:05")


def mac_in_use(scene: Scene) -> Answer:
    scene.address(scene.pod("shop/mac-0"), mac="02:00:00:00:00:06")
    return scene.asked("shop/mac-1", mac="02:00:00:00:00:06")


def network_unsuitable(scene: Scene) -> Answer:
    name = f"plain-{uuid.uuid4().hex[:8]}"
    body = {"request_id": name, "network": name, "driver": "ipam", "subnets": [{"cidr": "10.201.0.0/24"}]}
    scene.machine.ask(NetworkCreate.model_validate(body), NetworkView)
    return scene.pod().call("ADD", {"network": name})


PROVOKED: Mapping[int, Callable[[Scene], Answer]] = {
    SpecCode.INCOMPATIBLE_VERSION: incompatible_version,
    SpecCode.INVALID_ENVIRONMENT: invalid_environment,
    SpecCode.IO_FAILURE: io_failure,
    SpecCode.DECODING_FAILURE: decoding_failure,
    SpecCode.INVALID_CONFIG: invalid_config,
    SpecCode.TRY_AGAIN_LATER: try_again_later,
    SpecCode.NOT_AVAILABLE: not_available,
    100: internal,
    101: network_unknown,
    102: pool_unknown,
    103: owner_forbidden,
    104: exhausted,
    105: attachment_released,
    107: address_unknown,
    110: interface_exists,
    111: netns_unusable,
    115: kernel_refused,
    117: endpoint_broken,
    131: sender_forbidden,
    140: pool_unsuitable,
    141: owner_pinned,
    142: address_in_use,
    143: address_quarantined,
    144: mac_forbidden,
    145: mac_in_use,
    146: network_unsuitable,
}
"""How to bring a code about, by its number."""
