"""Whether the CNI plugin is installed on this node and can serve: a finding for each part."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from cni import conflist
from cni.executable import is_shim, versions_of, why_not_ready
from cni.notices import chain_notice, order_notice
from cni.places import Places
from cni.placing import content_of
from schemas.errors import ServiceError
from schemas.message import Message

_INSTALL = "run `moorage cni install`"
_FOREIGN = "look at it and move it away, then " + _INSTALL

Part = Literal["executable", "conflist", "order", "chain", "worker"]


class Finding(Message):
    """One part is `ok`, is unusual (`warn`), or keeps pods from being attached (`fail`)."""

    part: Part
    state: Literal["ok", "warn", "fail"]
    found: str
    advice: str | None = None


class Inspected(Message):
    """All findings. `ok` says that none is a failure."""

    ok: bool
    findings: tuple[Finding, ...]


def inspect(places: Places) -> Inspected:
    """Look at every part, and change nothing. What cannot be looked at is a failure, not an error."""
    executable = _executable(places)
    listed, document = _conflist(places)
    findings = [executable, listed]
    if document is not None:
        findings += _surroundings(places, document)
    findings.append(_worker(places, document if executable.state == "ok" else None))
    return Inspected(ok=all(item.state != "fail" for item in findings), findings=tuple(findings))


def _executable(places: Places) -> Finding:
    path = places.shim
    try:
        content = content_of(path)
        if content is None:
            return _failed("executable", f"there is no {path}", _INSTALL)
        if not is_shim(content):
            return _failed("executable", f"{path} is not Moorage's", _FOREIGN)
        versions = ", ".join(versions_of(path))
    except ServiceError as error:
        return _failed("executable", error.message)
    return Finding(part="executable", state="ok", found=f"{path} speaks CNI {versions}")


def _conflist(places: Places) -> tuple[Finding, Mapping[str, Any] | None]:
    """The finding, and the list where it is a valid one of ours."""
    path = places.conflist
    try:
        content = content_of(path)
    except ServiceError as error:
        return _failed("conflist", error.message), None
    if content is None:
        return _failed("conflist", f"there is no {path}", _INSTALL), None
    try:
        document = conflist.read(content)
        if not conflist.is_ours(content):
            return _failed("conflist", f"{path} is not Moorage's", _FOREIGN), None
        plugin = conflist.plugin_of(document)
    except ServiceError as error:
        return _failed("conflist", f"{path} cannot be used: {error.message}", _INSTALL + " --force"), None
    told = f"{path}: network {plugin['network']}, cniVersion {plugin['cniVersion']}"
    return Finding(part="conflist", state="ok", found=told), document


def _surroundings(places: Places, document: Mapping[str, Any]) -> Sequence[Finding]:
    before = order_notice(places)
    order = Finding(part="order", state="warn" if before else "ok", found=before or "runtimes load it first")
    chain = [str(plugin.get("type")) for plugin in document["plugins"][1:]]
    if not chain:
        return [order]
    missing = chain_notice(places, document)
    told = f"{', '.join(chain)} are in {places.bin_dir}"
    return [order, Finding(part="chain", state="fail" if missing else "ok", found=missing or told)]


def _worker(places: Places, document: Mapping[str, Any] | None) -> Finding:
    """What the node worker says when it is asked as a runtime would ask."""
    if document is None:
        return _failed("worker", "it was not asked", "mend the above first")
    try:
        reason = why_not_ready(places.shim, conflist.plugin_of(document), places.socket)
    except ServiceError as error:
        reason = error.message
    if reason is not None:
        return _failed("worker", reason)
    return Finding(part="worker", state="ok", found=f"it is ready at {places.socket}")


def _failed(part: Part, found: str, advice: str | None = None) -> Finding:
    return Finding(part=part, state="fail", found=found, advice=advice)
