"""Networks: their definition, the request that creates one, and what is known of one."""

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from schemas.drivers import VXLAN_OVERHEAD, BridgeDriver, Driver
from schemas.errors import ErrorBody
from schemas.fields import Address, Cidr, NetworkName, NodeName, OwnerPattern
from schemas.message import PAGE_LIMIT, Administrative, Message, Page, Query

MTU = Field(ge=1280, le=65535)
"""In bytes; 1280 is the least that IPv6 takes (RFC 8200 section 5)."""
_Deadline = Field(default=30, ge=1, le=600)

NetworkState = Literal["creating", "active", "failed", "deleting", "deleted"]
RolloutState = Literal["pending", "ready", "error", "removed"]


class Subnet(Message):
    """One CIDR of a network and, where it has one, its gateway."""

    cidr: Cidr
    gateway: Address | None = None

    @model_validator(mode="after")
    def _usable(self) -> Self:
        net = self.cidr
        longest = 30 if isinstance(net, IPv4Network) else 126
        if net.prefixlen > longest:
            raise ValueError(f"{net} has no room for pods: use a prefix of /{longest} or shorter")
        if net.prefixlen == 0:
            raise ValueError(f"{net} is every address there is: name a part of it")
        if net.is_multicast or net.is_loopback or net.is_link_local or net.network_address.is_unspecified:
            raise ValueError(f"{net} cannot be given to pods: multicast, loopback, link-local or 'this'")
        mapped = getattr(net.network_address, "ipv4_mapped", None)
        if mapped is not None:
            raise ValueError(f"{net} is IPv4 in IPv6-mapped form: write the IPv4 network")
        if self.gateway is not None:
            self._check_gateway(self.gateway)
        return self

    def _check_gateway(self, gateway: Any) -> None:
        if gateway.version != self.cidr.version or gateway not in self.cidr:
            raise ValueError(f"gateway {gateway} lies outside {self.cidr}")
        edges = {self.cidr.network_address}
        if self.cidr.version == 4:
            edges.add(self.cidr.broadcast_address)
        if gateway in edges:
            raise ValueError(f"gateway {gateway} is the network or broadcast address of {self.cidr}")


class NetworkDefinition(Message):
    """What makes two networks the same: everything but the name and the state.

    Without an `mtu` it is 1500, less what tunnels between IPv4 nodes add where the driver is vxlan.
    """

    driver: Driver = Field(default_factory=BridgeDriver)
    subnets: tuple[Subnet, ...] = Field(min_length=1, max_length=16)
    mtu: Annotated[int, MTU] = 1500
    owners: tuple[OwnerPattern, ...] = Field(default=(), max_length=256)
    probe: bool | None = None

    @property
    def probes(self) -> bool:
        """Whether nodes ask the segment, before a pod has an address, if somebody else uses it.

        Unless it was said: where others may be on the segment.
        """
        if self.probe is not None:
            return self.probe
        return bool(getattr(self.driver, "uplink", None) or getattr(self.driver, "parent", None))

    @model_validator(mode="before")
    @classmethod
    def _usual_mtu(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("mtu") is not None:
            return values
        driver = values.get("driver")
        kind = driver.get("type") if isinstance(driver, dict) else getattr(driver, "type", driver)
        return values | {"mtu": 1500 - (VXLAN_OVERHEAD[4] if kind == "vxlan" else 0)}

    @model_validator(mode="after")
    def _gateways(self) -> Self:
        lacking = [str(subnet.cidr) for subnet in self.subnets if subnet.gateway is None]
        if getattr(self.driver, "gateway", False) and lacking:
            raise ValueError(f"the driver puts gateways on the bridge, and {', '.join(lacking)} has none")
        return self

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        for i, one in enumerate(self.subnets):
            for other in self.subnets[i + 1 :]:
                if one.cidr.version == other.cidr.version and one.cidr.overlaps(other.cidr):
                    raise ValueError(f"subnets {one.cidr} and {other.cidr} overlap")
        return self


class NodeResult(Message):
    """What one node said of one network."""

    node: NodeName
    state: RolloutState
    error: ErrorBody | None = None


class NetworkView(Message):
    """A network as people see it. `version` grows with every change.

    `node_counts` is how many nodes are in each state, also where `nodes` was not asked for.
    """

    network: NetworkName
    definition: NetworkDefinition
    state: NetworkState
    version: int
    total: int = 0
    used: int = 0
    nodes: tuple[NodeResult, ...] = ()
    node_counts: Mapping[RolloutState, int] = Field(default_factory=dict)


class NetworkCreate(NetworkDefinition, Administrative):
    """Create a network on every ready node. Answered when all have reported, or at the deadline.

    With `keep_going` it is kept on the nodes that could make it: the answer's `nodes` say who failed, and
    those try again by themselves. It is `failed` as long as no node has it.

    Errors: `network_exists` (another definition under this name), `rollout_failed` (with each node's own
    error; the network was taken back everywhere).
    """

    NAME: ClassVar[str] = "network.create"
    VERSION: ClassVar[int] = 2
    ANSWER: ClassVar[type[Message]] = NetworkView

    network: NetworkName
    keep_going: bool = False
    deadline_s: float = _Deadline

    @property
    def definition(self) -> NetworkDefinition:
        """The part that is compared with a network of the same name."""
        return NetworkDefinition.model_validate(
            self.model_dump(include=set(NetworkDefinition.model_fields), mode="python")
        )


class NetworkUpdate(Administrative):
    """Add subnets to a network, change its MTU or which owners it allows; what is None stays as it is.

    Addresses that owners hold stay theirs, and pods that run keep the MTU they began with. Answered when
    every ready node has reported, or at the deadline: the network stays active and the answer's `nodes` say
    who failed. A stale `expected_version` is refused.

    Errors: `network_unknown`, `network_not_ready`, `version_conflict`, `subnet_conflict`.
    """

    NAME: ClassVar[str] = "network.update"
    VERSION: ClassVar[int] = 2
    ANSWER: ClassVar[type[Message]] = NetworkView

    network: NetworkName
    expected_version: int | None = None
    add_subnets: tuple[Subnet, ...] = Field(default=(), max_length=16)
    owners: tuple[OwnerPattern, ...] | None = Field(default=None, max_length=256)
    mtu: Annotated[int, MTU] | None = None
    deadline_s: float = _Deadline

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.add_subnets and self.owners is None and self.mtu is None:
            raise ValueError("nothing to change: add subnets, set the MTU or name the owners")
        return self


class NetworkDelete(Administrative):
    """Take a network away from every node, with its pools and addresses; its history stays.

    Refused while addresses are attached or wait for their owners. With `force` they are released, each with
    a history row that keeps `reason`, and pods that run lose their endpoint. Answered when every ready node
    has reported, or at the deadline. The network is `deleting` until all of them have removed it; one that
    is away removes it when it comes back.

    Errors: `network_unknown`, `network_not_ready` (it is being created), `version_conflict`,
    `network_in_use` (with the first holders; also where a node that is lost has pods on it).
    """

    NAME: ClassVar[str] = "network.delete"
    ANSWER: ClassVar[type[Message]] = NetworkView

    network: NetworkName
    expected_version: int | None = None
    force: bool = False
    reason: str | None = Field(default=None, min_length=1, max_length=500)
    deadline_s: float = _Deadline

    @model_validator(mode="after")
    def _explained(self) -> Self:
        if self.force and self.reason is None:
            raise ValueError("reason: say why addresses that are held are released by force")
        return self


class NetworkPage(Page):
    """One page of networks, by name."""

    networks: tuple[NetworkView, ...]


class NetworkList(Query):
    """All networks, by name."""

    NAME: ClassVar[str] = "network.list"
    ANSWER: ClassVar[type[Message]] = NetworkPage

    after: str | None = None
    limit: int = PAGE_LIMIT


class NetworkShow(Query):
    """One network with its state node by node, or how many are in which. Errors: `network_unknown`."""

    NAME: ClassVar[str] = "network.show"
    VERSION: ClassVar[int] = 2
    ANSWER: ClassVar[type[Message]] = NetworkView

    network: NetworkName
    with_nodes: bool = True
