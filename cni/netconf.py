"""The plugin's configuration, as the runtime passes it on standard input."""

import json
import math
import re
import reprlib
from functools import lru_cache
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from cni.errors import CniError, SpecCode
from cni.places import TYPE
from schemas.fields import ContainerId, Ifname, NetworkName, PoolName
from schemas.validation import explain

SUPPORTED_VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")


def _lists_of_objects(prev_result: dict[str, Any] | None) -> dict[str, Any] | None:
    """Refuse, before anything is wired, a prevResult that the result could not be appended to."""
    for key in ("interfaces", "ips", "routes"):
        entries = (prev_result or {}).get(key)
        if entries is None:
            continue
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{key} must be a list of objects")
    return prev_result


_USUAL_BYTES = 4096
"""A configuration up to this size is remembered: a runtime sends each pod of a network the same one."""


class ValidAttachment(BaseModel):
    """One that a GC must leave alone (SPEC, section 2, GC)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    containerID: ContainerId
    ifname: Ifname


_Listed = Annotated[
    tuple[ValidAttachment, ...] | None, BeforeValidator(lambda value: () if value is None else value)
]
_Object = Annotated[dict[str, Any], BeforeValidator(lambda value: {} if value is None else value)]


class NetConf(BaseModel):
    """The plugin's configuration as the runtime passes it. Keys that it does not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    cniVersion: str  # the fields have the specification's own names
    name: ContainerId  # a network's name in CNI follows the same rule (SPEC, section 1)
    type: str
    network: NetworkName
    pool: PoolName | None = None
    prevResult: Annotated[dict[str, Any] | None, AfterValidator(_lists_of_objects)] = None
    runtimeConfig: Any = None  # this and args: checked where they are read, see wishes.py
    args: Any = None
    capabilities: _Object = Field(default_factory=dict)
    valid_attachments: _Listed = Field(
        default=None,  # libcni sends both names (containernetworking/cni#1101)
        validation_alias=AliasChoices("cni.dev/valid-attachments", "cni.dev/attachments"),
    )
    """For GC: None where the key is absent. A runtime without pods may pass null: an empty list."""
    delegated: bool = False
    """Whether another plugin asks for addresses alone (SPEC, section 4): it makes the interface."""


def read_configuration(stdin: bytes) -> NetConf:
    """The configuration on standard input; it is shared, nobody may change it.

    Raises `CniError`: 6 no JSON, 1 unknown cniVersion, 7 invalid.
    """
    return _read_usual(stdin) if len(stdin) <= _USUAL_BYTES else _read(stdin)


def _read(stdin: bytes) -> NetConf:
    document = _json(stdin)
    version = document.get("cniVersion") or "0.1.0"  # what an absent one means (SPEC before 0.2.0, skel)
    if not isinstance(version, str):
        raise CniError(SpecCode.INVALID_CONFIG, "cniVersion must be a string such as 1.1.0")
    if version not in SUPPORTED_VERSIONS:
        known = ", ".join(SUPPORTED_VERSIONS)
        raise CniError(
            SpecCode.INCOMPATIBLE_VERSION,
            f"cniVersion {reprlib.repr(version)} is not supported: write one of {known}",
        )
    try:
        return NetConf.model_validate(document | _our_part(document))
    except ValidationError as error:
        raise CniError(SpecCode.INVALID_CONFIG, f"the configuration is not valid: {explain(error)}") from None


_read_usual = lru_cache(maxsize=64)(_read)


def _our_part(document: dict[str, Any]) -> dict[str, Any]:
    """What is to be on top of the document: our part is in `ipam` where another plugin delegates to us."""
    ipam = document.get("ipam") or {}
    named = isinstance(ipam, dict) and ipam.get("type") == TYPE
    if document.get("type") == TYPE and ipam:
        raise CniError(
            SpecCode.INVALID_CONFIG,
            f"ipam: plugin {TYPE} has its addresses from the allocator: leave ipam out, or name the plugin "
            f'that makes the interface as "type" and {TYPE} in "ipam"',
        )
    if not named:
        return {"delegated": False}
    if "network" not in ipam:
        raise CniError(SpecCode.INVALID_CONFIG, 'ipam: "network" is missing: name where addresses come from')
    return {"delegated": True, "network": ipam["network"], "pool": ipam.get("pool")}


def asked_version(stdin: bytes) -> str:
    """The cniVersion to give an error in: the configuration's where it looks like one, else the newest."""
    try:
        version = _json(stdin).get("cniVersion")
    except CniError:
        version = None
    looks = isinstance(version, str) and re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3}){2}", version)
    return str(version) if looks else SUPPORTED_VERSIONS[-1]


def _json(stdin: bytes) -> dict[str, Any]:
    try:
        document = json.loads(stdin.decode(), parse_constant=_not_json, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise CniError(
            SpecCode.DECODING_FAILURE, f"the configuration on standard input is not JSON: {reason}"
        ) from None
    if not isinstance(document, dict):
        raise CniError(SpecCode.DECODING_FAILURE, "the configuration on standard input is not a JSON object")
    return document


def _not_json(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{reprlib.repr(digits)} is too large")
    return number
