"""The machine as one worker sees it: the namespace it wires, its drivers, and the pods' namespaces."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Self
from uuid import UUID

from node_worker.attachments import Attachment
from node_worker.drivers import Driver
from node_worker.drivers.bridge import BridgeDriver
from node_worker.drivers.child import ChildDriver
from node_worker.drivers.delegated import DELEGATED, DelegatedDriver
from node_worker.drivers.vxlan import VxlanDriver
from node_worker.netlink import foreign, veth
from node_worker.netlink.namespace import Netns, own
from node_worker.netlink.session import Link, inside, named_links
from node_worker.netns_folders import NETNS_FOLDERS, check_named, check_opened
from node_worker.plan import NETWORK_LINKS
from node_worker.probe import check_allowed
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress
from schemas.network import NetworkDefinition

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Host:
    """Plain calls, for threads. Close it when the last of them has ended."""

    def __init__(
        self,
        netns: Path | None,
        netns_folders: Sequence[Path] = NETNS_FOLDERS,
        address: IPAddress | None = None,
    ) -> None:
        """Wire the namespace at `netns`, by default the worker's own. Raises `netns_unusable`.

        Pods' namespaces are those under `netns_folders`; `netns` may be anywhere. Tunnels end at `address`,
        by default the one that the machine reaches others with.
        """
        self._address = address
        self._own = own()
        self._wired = own() if netns is None else Netns(str(netns))
        self._netns_folders = tuple(netns_folders)
        self._drivers: Mapping[str, Driver] = {
            "bridge": BridgeDriver(self._wired),
            "vxlan": VxlanDriver(self._wired, self.address),
            "macvlan": ChildDriver(self._wired, "macvlan"),
            "ipvlan": ChildDriver(self._wired, "ipvlan"),
            DELEGATED: DelegatedDriver(),
        }
        self.boot_id = _BOOT_ID.read_text().strip()

    def driver(self, name: str) -> Driver:
        """The driver of that type."""
        driver = self._drivers.get(name)
        if driver is None:
            raise ServiceError(
                Code.NETWORK_NOT_READY,
                f"this node worker has no driver {name}, only {', '.join(self._drivers)}: update it",
                driver=name,
            )
        return driver

    def address(self) -> IPAddress | None:
        """Where this node's tunnels end: as it was set, else the address that it reaches others with."""
        if self._address is not None:
            return self._address
        with inside(self._wired) as links:
            index = links.towards_others()
            found = links.addresses(index) if index is not None else []
        return next((item.ip for item in found if not item.is_link_local), None)

    def network_links(self) -> frozenset[Link]:
        """The links that networks are made of here."""
        with inside(self._wired) as links:
            names = [name for name in named_links().values() if name.startswith(NETWORK_LINKS)]
            return frozenset(link for name in names if (link := links.find(name)) is not None)

    def check_probing(self, definition: NetworkDefinition) -> None:
        """Raise ServiceError `kernel_refused` where the network wants its segment asked, and we may not.

        No pod could be attached to it. On a network of addresses alone nobody asks.
        """
        if definition.probes and definition.driver.type != DELEGATED:
            check_allowed(self._wired)

    def open_pod(self, path: str) -> Netns:
        """The pod's namespace at `path`, for the caller to close.

        Raises ServiceError `netns_unusable`, also where it is the node's own (libcni skel, code 8) or not in
        a folder for pods' namespaces.
        """
        check_named(path, self._netns_folders)
        pod = Netns(path)
        try:
            check_opened(path, pod.place, self._netns_folders)
            self._check_foreign(pod)
        except BaseException:
            pod.close()
            raise
        return pod

    def _check_foreign(self, pod: Netns) -> None:
        if pod.is_same(self._own) or pod.is_same(self._wired):
            raise ServiceError(
                Code.NETNS_UNUSABLE,
                f"network namespace {pod.path} is the node's own: such a pod needs no attachment",
                netns=pod.path,
            )

    def has_link(self, pod: Netns, ifname: str) -> bool:
        """Whether the pod has an interface of that name."""
        return veth.has_link(pod, ifname)

    def has_host_link(self, name: str) -> bool:
        """Whether the node has an endpoint's host end of that name."""
        return veth.has_link(self._wired, name)

    def missing(self, rows: Collection[Attachment]) -> set[UUID]:
        """Those of `rows` whose pod's namespace is gone for certain (DESIGN section 8).

        The kernel removes the host's end of a veth pair together with the pod's namespace, and never before.
        Where there is none, no process and no mount holds the namespace any more.
        """
        hidden = [row for row in rows if not self.driver(row.driver).shows_on_host]
        links = veth.link_names(self._wired)
        gone = {row.attachment_id for row in rows if row not in hidden and row.host_link not in links}
        pods = {row.attachment_id: foreign.Identity(row.netns_inode, row.netns_cookie) for row in hidden}
        away = foreign.gone(pods.values()) if pods else set()
        return gone | {named for named, pod in pods.items() if pod in away}

    def remove_unknown(self, host_link: str) -> None:
        """Remove an endpoint that the journal knows nothing of by its host's end, if it has one."""
        veth.cut_veth(self._wired, host_link)
        veth.remove_veth(self._wired, host_link)

    def close(self) -> None:
        """Let go of the namespaces."""
        self._own.close()
        self._wired.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
