"""Lets pods reach out through the node's own address: one nftables table for each network (nft(8))."""

import hashlib
import subprocess
from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from node_worker.netlink.namespace import Netns
from node_worker.netlink.session import write_sysctl
from schemas.errors import Code, ServiceError

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"}
"""Ours holds URLs with passwords where these are variables."""
_NFT_S = 10


def ensure_masquerade(host: Netns, network: str, subnets: Collection[IPv4Network | IPv6Network]) -> None:
    """What leaves `subnets` for elsewhere gets the node's address, and the node forwards it.

    Safe to call twice. Raises ServiceError: `kernel_refused` (no nft, or it refuses), `link_conflict` (the
    node does not forward
    IPv6, which is not ours to change: it would stop to heed its routers).
    """
    families = {subnet.version for subnet in subnets}
    rules = "\n".join(
        f"{'ip' if subnet.version == 4 else 'ip6'} saddr {subnet} "
        f"{'ip' if subnet.version == 4 else 'ip6'} daddr != {subnet} masquerade"
        for subnet in subnets
    )
    table = _table(network)
    chain = f"chain out {{ type nat hook postrouting priority srcnat; policy accept;\n{rules}\n}}"
    with host.entered():
        if 6 in families and _is_off("net/ipv6/conf/all/forwarding"):
            raise ServiceError(
                Code.LINK_CONFLICT,
                f"network {network} is to be masqueraded, and this node does not forward IPv6: set "
                "net.ipv6.conf.all.forwarding=1 (and accept_ra=2 where it has its routes from a router)",
                network=network,
            )
        if 4 in families and _is_off("net/ipv4/ip_forward"):
            write_sysctl("net/ipv4/ip_forward", 1)
        _nft(f"table inet {table}\nflush table inet {table}\ntable inet {table} {{\n{chain}\n}}\n")


def remove_masquerade(host: Netns, network: str) -> None:
    """Remove the network's table. Safe to call twice."""
    table = _table(network)
    with host.entered():
        _nft(f"table inet {table}\ndelete table inet {table}\n")


def _table(network: str) -> str:
    return f"moorage_{hashlib.sha256(network.encode()).hexdigest()[:12]}"


def _is_off(key: str) -> bool:
    try:
        return Path("/proc/sys", key).read_text().strip() == "0"
    except OSError:  # a kernel without IPv6
        return False


def _nft(script: str) -> None:
    """Have all of `script` done, or nothing, in the namespace that the calling thread is in."""
    try:
        done = subprocess.run(
            ["nft", "-f", "-"],
            env=_ENVIRONMENT,
            input=script,
            capture_output=True,
            text=True,
            timeout=_NFT_S,
            check=False,
        )
        told = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        told = str(error)
    if told:
        raise ServiceError(
            Code.KERNEL_REFUSED,
            f"nft could not change the masquerading ({told.splitlines()[0]}): install nftables, and see that "
            "the kernel has nf_tables and nft_masq",
            operation="nft",
        )
