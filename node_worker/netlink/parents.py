"""The node's interfaces that networks are on: a VLAN of one, and whether pods can be put beside one."""

import errno
import hashlib

from node_worker.netlink.namespace import Netns
from node_worker.netlink.session import Link, Refused, Session, inside, switch_off_ipv6
from schemas.errors import Code, ServiceError

VLAN_ALIAS = "moorage vlan"
"""What tells a VLAN's link that we made from others."""
_TRIED = "motry"


def carrier(parent: str, vlan: int | None) -> str:
    """The link that a network is on: the parent, or that VLAN of it."""
    if vlan is None:
        return parent
    name = f"{parent}.{vlan}"
    return name if len(name.encode()) <= 15 else f"mv{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def ensure_vlan(host: Netns, parent: str, vlan: int, mtu: int) -> None:
    """Make the VLAN's link exist. One that somebody else made is used as it is. Safe to call twice.

    Ours gets a larger MTU if `mtu` asks for it and the parent has it. Raises ServiceError: `uplink_missing`,
    `link_conflict` (another link has the name), `kernel_refused`.
    """
    name = carrier(parent, vlan)
    with inside(host) as links:
        below = _existing(links, parent)
        found = links.find(name)
        if found is None:
            links.add(name, "vlan", link=below.index, vlan_id=vlan)
            links.change(name, ifalias=VLAN_ALIAS)
            switch_off_ipv6(name)  # the node is no host of the pods' network: routers there are not for it
        elif found.kind != "vlan" or found.lower != below.index or links.vlan(found.index) != vlan:
            raise ServiceError(
                Code.LINK_CONFLICT,
                f"this node has a link {name} ({found.kind or 'no kind'}) that is not VLAN {vlan} of "
                f"{parent}: rename or remove it",
                link=name,
            )
        elif found.alias == VLAN_ALIAS:
            switch_off_ipv6(name)  # a killed worker had not yet
            if found.mtu < mtu <= below.mtu:  # the kernel takes it down with the parent's, and not up
                links.change(name, mtu=mtu)
        for link in (parent, name):
            links.change(link, state="up")


def remove_vlan(host: Netns, parent: str, vlan: int) -> None:
    """Remove the VLAN's link if it is ours and nobody is on it. Safe to call twice."""
    with inside(host) as links:
        found = links.find(carrier(parent, vlan))
        if (
            found is not None
            and found.alias == VLAN_ALIAS
            and found.master is None
            and _is_free(links, found)
        ):
            links.remove(found.name)


def _is_free(links: Session, parent: Link) -> bool:
    """Whether no link is on `parent`. Pods' are in namespaces of their own, where they cannot be seen.

    A macvlan of the mode passthru tells: the kernel makes it where it is the only one, of any kind.
    """
    name = f"{_TRIED}{parent.index}"
    links.remove(name)  # one that a killed worker left
    if any(link.lower == parent.index for link in links.all()):
        return False
    try:
        links.add(name, "macvlan", link=parent.index, macvlan_mode="passthru")
    except Refused as refusal:
        return refusal.errno == errno.EOPNOTSUPP  # a kernel without macvlan
    links.remove(name)
    return True


def check_parent(host: Netns, parent: str, network: str, mtu: int, kind: str) -> None:
    """See that pods can be put beside `parent`, and that it is up.

    Raises ServiceError: `uplink_missing`, `uplink_in_use` (it is a bridge's), `link_conflict` (its MTU is too
    small), `kernel_refused` (also where the kernel does not know that kind of link).
    """
    with inside(host) as links:
        found = _existing(links, parent)
        if found.master is not None:
            master = links.at(found.master)
            raise ServiceError(
                Code.UPLINK_IN_USE,
                f"interface {parent} belongs to {master.name if master else found.master}: pods cannot be "
                f"beside it. Take another one, or free it (ip link set {parent} nomaster)",
                uplink=parent,
            )
        if found.mtu < mtu:
            raise ServiceError(
                Code.LINK_CONFLICT,
                f"network {network} asks for MTU {mtu} and interface {parent} has {found.mtu}: raise the "
                f"interface's (ip link set {parent} mtu {mtu}) or lower the network's",
                uplink=parent,
                mtu=found.mtu,
            )
        if not found.up:
            links.change(parent, state="up")
        _try(links, found, kind)


def _try(links: Session, parent: Link, kind: str) -> None:
    """Make one and remove it: the only way to know whether the kernel can, and may beside this parent."""
    name = f"{_TRIED}{parent.index}"
    mode = {"macvlan_mode": "bridge"} if kind == "macvlan" else {"ipvlan_mode": 0}
    try:
        links.add(name, kind, link=parent.index, **mode)
    except Refused as refusal:
        if refusal.errno == errno.EBUSY:
            raise ServiceError(
                Code.UPLINK_IN_USE,
                f"interface {parent.name} carries links of another kind than {kind}, and the kernel allows "
                "one: take another interface, or a VLAN of it",
                uplink=parent.name,
            ) from refusal
        if refusal.errno != errno.EEXIST:  # one that a killed worker left
            raise
    links.remove(name)


def _existing(links: Session, name: str) -> Link:
    found = links.find(name)
    if found is None or found.loopback:
        there = sorted(link.name for link in links.all() if not link.loopback and link.kind is None)
        raise ServiceError(
            Code.UPLINK_MISSING,
            f"this node has no interface {name} that a network could be on; there are: "
            f"{', '.join(there) or 'none'}",
            uplink=name,
        )
    return found
