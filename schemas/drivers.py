"""Drivers: what a network is made of on each node. One model for each, told apart by `type`."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from schemas.fields import Cidr, Ifname
from schemas.message import Message

VlanId = Annotated[int, Field(ge=1, le=4094)]  # IEEE 802.1Q, section 9.6
Vni = Annotated[int, Field(ge=1, le=16_777_215)]  # RFC 7348, section 5

VXLAN_OVERHEAD = {4: 50, 6: 70}
"""Bytes that a tunnel adds, by the family of the nodes' addresses: Ethernet 14, VXLAN 8, UDP 8, and IP."""


class BridgeDriver(Message):
    """A Linux bridge on every node; `uplink` is the node's interface that joins it, if any.

    With `vlan` it is that VLAN of the uplink. Without an uplink pods reach those on their own node alone;
    `gateway` then puts the subnets' gateways on the bridge, and `masquerade` lets pods reach out through the
    node's own address.
    """

    type: Literal["bridge"] = "bridge"
    uplink: Ifname | None = None
    vlan: VlanId | None = None
    gateway: bool = False
    masquerade: bool = False

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.vlan is not None and self.uplink is None:
            raise ValueError("vlan: of which interface? Name the uplink")
        if self.gateway and self.uplink is not None:
            raise ValueError("gateway: every node would answer for it on the uplink; leave it to a router")
        if self.masquerade and not self.gateway:
            raise ValueError("masquerade: pods reach the node through the gateway on the bridge; add gateway")
        return self


class VxlanDriver(Message):
    """A bridge on every node and tunnels between them (RFC 7348): pods reach one another over any IP network.

    Broadcasts are sent to every node, which sets a limit of some 500 nodes. `vni` is the network's number in
    the tunnels, `port` their UDP port.
    """

    type: Literal["vxlan"] = "vxlan"
    vni: Vni
    port: int = Field(default=4789, ge=1, le=65535)


class MacvlanDriver(Message):
    """An interface of its own for each pod, beside the node's interface `parent` on that one's segment.

    With `vlan` it is that VLAN of the parent. By itself the kernel keeps a pod and its own node apart; with
    `host_access` they reach one another by a second link, as kubelet's probes have to, and the pod reaches
    `services` (the cluster's service addresses) through the node.
    """

    type: Literal["macvlan"] = "macvlan"
    parent: Ifname
    vlan: VlanId | None = None
    host_access: bool = True
    services: tuple[Cidr, ...] = Field(default=(), max_length=8)
    mode: Literal["bridge", "private", "vepa"] = "bridge"


class IpvlanDriver(Message):
    """As macvlan, where the segment takes one MAC from each port: pods share that of the node's `parent`."""

    type: Literal["ipvlan"] = "ipvlan"
    parent: Ifname
    vlan: VlanId | None = None
    host_access: bool = True
    services: tuple[Cidr, ...] = Field(default=(), max_length=8)


class IpamDriver(Message):
    """Nothing on the node: other plugins make the interfaces and ask for addresses alone."""

    type: Literal["ipam"] = "ipam"


def _shorthand(value: Any) -> Any:
    """`"driver": "bridge"` is `"driver": {"type": "bridge"}`, which is also what a driver without type is."""
    if isinstance(value, str):
        return {"type": value}
    if isinstance(value, dict) and "type" not in value:
        return {"type": "bridge"} | value
    return value


Driver = Annotated[
    Annotated[
        BridgeDriver | VxlanDriver | MacvlanDriver | IpvlanDriver | IpamDriver, Field(discriminator="type")
    ],
    BeforeValidator(_shorthand),
]
DriverType = Literal["bridge", "vxlan", "macvlan", "ipvlan", "ipam"]
