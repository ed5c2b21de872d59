"""The checked field types that every message is made of: names, addresses, ranges, times."""

import re
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, StringConstraints

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"


def _address(value: Any) -> Any:
    """Read an address from text alone: `ipaddress` would also take a bare integer."""
    if isinstance(value, (IPv4Address, IPv6Address)):
        return value
    if not isinstance(value, str) or "%" in value:
        raise ValueError("must be an IPv4 or IPv6 address as text, without a zone index")
    try:
        return ip_address(value)
    except ValueError:
        raise ValueError(f"{value!r} is not an IPv4 or IPv6 address") from None


def _cidr(value: Any) -> Any:
    if isinstance(value, (IPv4Network, IPv6Network)):
        return value
    if not isinstance(value, str) or "/" not in value or "%" in value:
        raise ValueError("must be a network such as 10.20.0.0/24 or fd00:20::/64, as text")
    try:
        return ip_network(value)
    except ValueError:
        pass
    try:
        meant = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{value!r} is not a network such as 10.20.0.0/24") from None
    raise ValueError(f"{value!r} has host bits set: write {meant}")


def _plain(address: IPAddress) -> IPAddress:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        raise ValueError(f"write the IPv4 address {address.ipv4_mapped} instead of its IPv6-mapped form")
    return address


def _ifname(name: str) -> str:
    """Linux interface name rules, as the CNI specification asks (SPEC, section 2, CNI_IFNAME)."""
    if len(name.encode()) > 15 or name in {"", ".", ".."} or re.search(r"[/:\s\x00-\x1f]", name):
        raise ValueError(
            "must be an interface name: 1 to 15 bytes, no '/', ':' or white space, not '.' or '..'"
        )
    return name


def _mac(value: str) -> str:
    if not re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", value):
        raise ValueError("must be a MAC address such as 0a:58:0a:00:00:05")
    if int(value[:2], 16) & 1:
        raise ValueError("must be a unicast MAC address")
    return value


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


PATTERNS_IN_WORDS: dict[str, str] = {}
"""What a name must be, by the pattern it has to match: for messages that people read."""


def _matching(pattern: str, words: str) -> str:
    PATTERNS_IN_WORDS[pattern] = words
    return pattern


_NAME = _matching(f"^{_LABEL}$", "must be 1 to 63 lower-case letters, digits and '-', as in a DNS label")
SYSTEM_NETWORK = "_system"
"""The reserved network row whose history tells of nodes: no network can have this name."""
_HISTORY = _matching(
    f"^({SYSTEM_NETWORK}|{_LABEL})$", f"must be a network's name, or {SYSTEM_NETWORK} for nodes"
)
_NODE = _matching(f"^{_SUBDOMAIN}$", "must be a node's name: lower-case letters, digits, '-' and '.'")
_ID = _matching(r"^[a-zA-Z0-9][a-zA-Z0-9_.:\-]{0,63}$", "must be 1 to 64 letters, digits and '_.:-'")
_CONTAINER = _matching(r"^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$", "must be letters, digits and '_.-'")
_OWNER = _matching(
    rf"^({_LABEL}/{_SUBDOMAIN}|container:[a-zA-Z0-9][a-zA-Z0-9_.\-]{{0,254}})$",
    "must be an owner such as shop/web-0 or container:db",
)
_OWNERS = _matching(
    r"^([a-z0-9*][-a-z0-9*]{0,62}/[a-z0-9*][-a-z0-9.*]{0,252}|container:[a-zA-Z0-9*][a-zA-Z0-9_.*\-]{0,254})$",
    "must be a pattern of owners such as shop/web-* or shop/*",
)

Address = Annotated[IPAddress, BeforeValidator(_address), AfterValidator(_plain)]
Cidr = Annotated[IPNetwork, BeforeValidator(_cidr)]
Mac = Annotated[str, StringConstraints(to_lower=True), AfterValidator(_mac)]
Ifname = Annotated[str, AfterValidator(_ifname)]
Time = Annotated[AwareDatetime, AfterValidator(_utc)]

NetworkName = Annotated[str, StringConstraints(pattern=_NAME)]
HistoryName = Annotated[str, StringConstraints(pattern=_HISTORY)]
PoolName = Annotated[str, StringConstraints(pattern=_NAME)]
# A queue name holds at most 255 bytes and starts with "moorage.node." (AMQP 0-9-1, short string).
NodeName = Annotated[str, StringConstraints(pattern=_NODE, max_length=200)]
ContainerId = Annotated[str, StringConstraints(pattern=_CONTAINER, max_length=255)]
RequestId = Annotated[str, StringConstraints(pattern=_ID)]
Owner = Annotated[str, StringConstraints(pattern=_OWNER)]
OwnerPattern = Annotated[str, StringConstraints(pattern=_OWNERS)]
