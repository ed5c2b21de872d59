"""The configuration list that makes runtimes call us: written, recognised, and its place among others."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cni.netconf import SUPPORTED_VERSIONS, NetConf
from cni.places import TYPE
from schemas.errors import Code, ServiceError
from schemas.validation import explain

CAPABILITIES = {"io.kubernetes.cri.pod-annotations": True, "ips": True, "mac": True}
CHAINABLE: Mapping[str, Mapping[str, Any]] = {
    "portmap": {"snat": True, "capabilities": {"portMappings": True}},
    "bandwidth": {"capabilities": {"bandwidth": True}},
    "firewall": {},
    "tuning": {},
    "sbr": {},
}
"""The reference plugins that may follow ours, with the capabilities that each is of use with."""

_LOADED = (".conf", ".conflist", ".json")  # libcni and go-cni


@dataclass(frozen=True)
class Wanted:
    """What goes into the configuration list."""

    network: str
    pool: str | None = None
    name: str = "moorage"
    cni_version: str = "1.0.0"
    chain: tuple[str, ...] = ()


def written(wanted: Wanted) -> bytes:
    """The configuration list as a file. Raises ServiceError `invalid_request`."""
    if wanted.cni_version not in SUPPORTED_VERSIONS:
        known = ", ".join(SUPPORTED_VERSIONS)
        raise _refused(f"--cni-version {wanted.cni_version} is not supported: give one of {known}")
    for name in wanted.chain:
        if name not in CHAINABLE:
            known = ", ".join(CHAINABLE)
            raise _refused(f"--chain {name!r} is not one of {known}: add others to the file by hand")
    ours = {"type": TYPE, "network": wanted.network}
    if wanted.pool is not None:
        ours["pool"] = wanted.pool
    chain = [{"type": name, **CHAINABLE[name]} for name in wanted.chain]
    document = {
        "cniVersion": wanted.cni_version,
        "name": wanted.name,
        "plugins": [{**ours, "capabilities": CAPABILITIES}, *chain],
    }
    plugin_of(document)
    return json.dumps(document, indent=2).encode() + b"\n"


def read(content: bytes) -> dict[str, Any]:
    """The list in a file. Raises ServiceError `invalid_request` where runtimes could not read it either."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _refused(f"it is not JSON ({error})") from error
    plugins = document.get("plugins") if isinstance(document, dict) else None
    if not isinstance(plugins, list) or not plugins or not all(isinstance(item, dict) for item in plugins):
        raise _refused("it has no list of plugins")
    return dict(document)


def is_ours(content: bytes) -> bool:
    """Whether it is a configuration list whose first plugin is ours."""
    try:
        return bool(read(content)["plugins"][0].get("type") == TYPE)
    except ServiceError:
        return False


def plugin_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Our plugin's configuration, as a runtime makes it from the list. Raises ServiceError."""
    named = {"cniVersion": document.get("cniVersion"), "name": document.get("name")}
    plugin = {**document["plugins"][0], **named}
    try:
        NetConf.model_validate(plugin)
    except ValidationError as error:
        raise _refused(f"the configuration is not valid: {explain(error)}") from error
    if plugin["cniVersion"] not in SUPPORTED_VERSIONS:
        raise _refused(f"cniVersion {plugin['cniVersion']} is not one of {', '.join(SUPPORTED_VERSIONS)}")
    return plugin


def sorted_before(target: Path) -> Sequence[str]:
    """The configurations in the same folder that runtimes come to before `target`, which they load first."""
    ours = os.fsencode(target.name)
    names = (path.name for path in target.parent.iterdir() if path.suffix in _LOADED)
    return sorted(name for name in names if os.fsencode(name) < ours)


def _refused(what: str) -> ServiceError:
    return ServiceError(Code.INVALID_REQUEST, what)
