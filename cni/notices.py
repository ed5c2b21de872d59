"""What a person should hear of an installation that is no error, in words that say what to do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cni import conflist
from cni.conflist import Wanted
from cni.executable import versions_of
from cni.places import DEFAULT_SOCKET, Places
from cni.placing import content_of
from schemas.errors import ServiceError


def order_notice(places: Places) -> str | None:
    """Which configuration runtimes take in place of ours, if any; the list must be there."""
    before = conflist.sorted_before(places.conflist)
    if not before:
        return None
    return (
        f"containerd and CRI-O use the first configuration alone, and {before[0]} sorts before "
        f"{places.conflist.name}: remove or rename it, unless it calls Moorage itself"
    )


def chain_notice(places: Places, document: Mapping[str, Any]) -> str | None:
    """Which plugins behind ours keep the list from working, if any. Asks each for its VERSION."""
    version = str(document["cniVersion"])
    programs = [places.bin_dir / str(plugin.get("type")) for plugin in document["plugins"][1:]]
    faults = [fault for program in programs if (fault := _fault(program, version)) is not None]
    return f"{'; '.join(faults)}: every ADD fails until that is mended" if faults else None


def _fault(program: Path, version: str) -> str | None:
    if not program.exists():
        return f"{program} is missing"
    try:
        spoken = versions_of(program)
    except ServiceError:
        return f"{program} does not run here"
    return None if version in spoken else f"{program} speaks CNI {', '.join(spoken)} and not {version}"


def socket_notice(places: Places) -> str | None:
    """What the runtime has to be told of a socket that is not the usual one."""
    if places.socket == DEFAULT_SOCKET:
        return None
    return (
        f"the container runtime's service needs MOORAGE_CNI_SOCKET={places.socket} in its environment: the "
        f"executable takes it from there, and calls {DEFAULT_SOCKET} otherwise (systemd: `systemctl edit "
        f"containerd`, [Service] Environment=MOORAGE_CNI_SOCKET={places.socket}, then restart it)"
    )


def name_notice(places: Places, wanted: Wanted) -> str | None:
    """What a new name does: attachments are known by their configuration's, which a DEL repeats."""
    content = content_of(places.conflist)
    before = conflist.read(content).get("name") if content and conflist.is_ours(content) else wanted.name
    if before == wanted.name:
        return None
    return (
        f"the configuration's name was {before}: the DEL of a pod attached under that name does nothing, and "
        "the node worker releases its address some 30 s to 60 s after the pod is gone"
    )


def kept_notice() -> str:
    """What the executable that stays is for."""
    return (
        "Pods that run keep their addresses. Their DEL needs the executable: CRI-O and podman call it with "
        "the configuration they cached. containerd cannot delete pods without any configuration, and with "
        "another one it calls that one's plugin; the node worker releases the addresses of pods that are "
        "gone. Once all pods are deleted: moorage cni uninstall --shim-too"
    )
