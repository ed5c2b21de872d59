"""What a pod wishes for, read from what the runtime passes: network, pool, addresses and MAC. Pure.

All of it is hostile input: whoever writes a pod writes its annotations. A wish that cannot be read is
refused and not dropped, since a pod with another address than the one asked for is worse than no pod.
Whether a wish is granted is the allocator's to decide (DESIGN section 7).

Sources: CNI's CONVENTIONS.md (capabilities `ips` and `mac`, `args.cni`); DESIGN section 7 (annotations).
"""

import reprlib
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter, ValidationError

from cni.errors import CniError, SpecCode
from cni.netconf import NetConf
from schemas.fields import Address, Ifname, IPAddress, Mac, NetworkName, PoolName
from schemas.validation import explain

ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
"""The capability under which containerd and CRI-O pass a pod's annotations."""
FIRST_INTERFACE = "eth0"
"""The interface that annotations without a suffix are about, and that a pod leaves by."""
MOST_ADDRESSES = 64  # what an address.allocate carries

_PREFIX = "moorage.io/"
_FIELDS = {"network": "network", "pool": "pool", "ip": "addresses", "mac": "mac"}  # by annotation
_LONGEST_ADDRESS = 45  # characters: INET6_ADDRSTRLEN without its end
_NO_WISH: tuple[Any, ...] = (None, "", [])  # Go's zero values: what a runtime may pass for nothing


@dataclass(frozen=True, slots=True)
class Wishes:
    """What one interface of a pod is to have. Of `addresses`, any free one of each family that is named."""

    network: str
    pool: str | None = None
    addresses: tuple[IPAddress, ...] = ()
    mac: str | None = None


@dataclass(frozen=True, slots=True)
class _Passed:
    """A value as it was passed, and where: the place that an error names."""

    value: Any
    source: str
    code: SpecCode = SpecCode.INVALID_CONFIG
    listed: bool = False  # addresses come as a JSON list, not as a text with commas
    prefixed: bool = False  # an address may have its prefix length; its subnet's is what counts

    def refused(self, reason: str) -> CniError:
        return CniError(self.code, f"{self.source}: {reason}")

    def text(self) -> str:
        """The value, if it is text. Raises `CniError`."""
        if not isinstance(self.value, str):
            raise self.refused("must be text")
        return self.value


def _not_zero(mac: str) -> str:
    if not mac.strip("0:"):
        raise ValueError("must not be all zero")
    return mac


_Source = dict[str, _Passed]  # by field of `Wishes`

_NETWORK: TypeAdapter[str] = TypeAdapter(NetworkName)
_POOL: TypeAdapter[str] = TypeAdapter(PoolName)
_ADDRESS: TypeAdapter[IPAddress] = TypeAdapter(Address)
_MAC: TypeAdapter[str] = TypeAdapter(Annotated[Mac, AfterValidator(_not_zero)])
_IFNAME: TypeAdapter[str] = TypeAdapter(Ifname)


def read_wishes(conf: NetConf, args: Mapping[str, str], ifname: str) -> Wishes:
    """What interface `ifname` is to have, each field from the first source that has it.

    The sources: runtimeConfig's `ips` and `mac`, the pod's annotations, `args.cni`, CNI_ARGS, and the
    configuration's own network and pool. Only the value that counts is looked at. Raises `CniError`: 7 for
    what came on standard input, 4 for CNI_ARGS.
    """
    runtime = _object(conf.runtimeConfig, "runtimeConfig")
    annotations = _object(runtime.get(ANNOTATIONS), f"runtimeConfig {ANNOTATIONS}")
    for name in annotations:
        _check_name(name, ifname)
    args_cni = _object(_object(conf.args, "args").get("cni"), "args.cni")
    passed = ChainMap[str, _Passed](
        _ips_and_mac(runtime, "runtimeConfig"),
        *_annotated(annotations, ifname),
        _ips_and_mac(args_cni, "args.cni"),
        _from_arguments(args),
    )
    network = _name(_NETWORK, passed.get("network"), "network")
    pool = _name(_POOL, passed.get("pool"), "pool")
    if pool is None and network in (None, conf.network):
        pool = conf.pool  # it is a pool of the configuration's network
    return Wishes(network or conf.network, pool, _addresses(passed.get("addresses")), _mac(passed.get("mac")))


def read_leniently(conf: NetConf, args: Mapping[str, str], ifname: str) -> Wishes:
    """As `read_wishes`, for calls that no wish may fail: what cannot be read leaves the network alone.

    The network is the wished one if that can be read, else the configuration's.
    """
    try:
        return read_wishes(conf, args, ifname)
    except CniError:
        pass
    try:
        runtime = _object(conf.runtimeConfig, "runtimeConfig")
        annotations = _object(runtime.get(ANNOTATIONS), f"runtimeConfig {ANNOTATIONS}")
        passed = ChainMap[str, _Passed](*_annotated(annotations, ifname))
        return Wishes(_name(_NETWORK, passed.get("network"), "network") or conf.network)
    except CniError:
        return Wishes(conf.network)


def _object(value: Any, source: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CniError(SpecCode.INVALID_CONFIG, f"{source} must be a JSON object, or left out")
    return value


def _ips_and_mac(passed: Mapping[str, Any], where: str) -> _Source:
    named = {"addresses": "ips", "mac": "mac"}
    return {
        field: _Passed(passed[key], f"{where} {key}", listed=True, prefixed=True)
        for field, key in named.items()
        if passed.get(key) not in _NO_WISH
    }


def _from_arguments(args: Mapping[str, str]) -> _Source:
    named = {"addresses": "IP", "mac": "MAC"}
    return {
        field: _Passed(args[key], f"CNI_ARGS {key}", SpecCode.INVALID_ENVIRONMENT, prefixed=True)
        for field, key in named.items()
        if args.get(key)
    }


def _annotated(annotations: Mapping[str, Any], ifname: str) -> Iterator[_Source]:
    """The annotations for this interface: those that name it, then, on eth0, those that name none."""
    if not annotations:
        return
    suffixes = (f".{ifname}", "") if ifname == FIRST_INTERFACE else (f".{ifname}",)
    for suffix in suffixes:
        names = {field: f"{_PREFIX}{key}{suffix}" for key, field in _FIELDS.items()}
        yield {
            field: _Passed(annotations[name], f"annotation {name}")
            for field, name in names.items()
            if name in annotations
        }


def _check_name(name: str, ifname: str) -> None:
    """Refuse an annotation of ours for this interface, or for none that can exist, that nobody knows."""
    if not name.startswith(_PREFIX):
        return
    key, dot, suffix = name.removeprefix(_PREFIX).partition(".")
    if dot and not _is_ifname(suffix):
        raise _bad_name(name, "does not end in the name of an interface")
    if (suffix if dot else FIRST_INTERFACE) == ifname and key not in _FIELDS:
        raise _bad_name(name, "is not known")


def _is_ifname(text: str) -> bool:
    try:
        _IFNAME.validate_python(text)
    except ValidationError:
        return False
    return True


def _bad_name(name: str, what: str) -> CniError:
    known = ", ".join(_PREFIX + key for key in _FIELDS)
    return CniError(
        SpecCode.INVALID_CONFIG,
        f"annotation {reprlib.repr(name)} {what}: write one of {known}, for another interface than "
        f"{FIRST_INTERFACE} with its name, such as {_PREFIX}ip.net1",
    )


def _name(kind: TypeAdapter[str], passed: _Passed | None, what: str) -> str | None:
    if passed is None:
        return None
    text = passed.text()
    try:
        return kind.validate_python(text)
    except ValidationError as error:
        reason = f"{reprlib.repr(text)} is not the name of a {what}: it {explain(error)}"
        raise passed.refused(reason) from None


def _mac(passed: _Passed | None) -> str | None:
    if passed is None:
        return None
    text = passed.text()
    try:
        return _MAC.validate_python(text)
    except ValidationError:
        raise passed.refused(
            f"{reprlib.repr(text)} is not the MAC address of one interface: write one such as "
            "02:00:00:00:00:05"
        ) from None


def _addresses(passed: _Passed | None) -> tuple[IPAddress, ...]:
    """The addresses of a list or of a text with commas, each of them once."""
    if passed is None:
        return ()
    if not passed.listed:
        texts: list[Any] = [text.strip(" ") for text in passed.text().split(",")]
    elif isinstance(passed.value, list):
        texts = passed.value
    else:
        raise passed.refused('must be a list of addresses, such as ["10.20.0.12"]')
    if len(texts) > MOST_ADDRESSES:
        raise passed.refused(f"{len(texts)} addresses are too many: name at most {MOST_ADDRESSES}")
    return tuple(dict.fromkeys(_address(passed, text) for text in texts))


def _address(passed: _Passed, text: Any) -> IPAddress:
    if not isinstance(text, str):
        raise passed.refused("each address must be text, such as 10.20.0.12")
    alone, slash, prefix = text.partition("/")
    if slash and not passed.prefixed:
        raise passed.refused(
            f"{reprlib.repr(text)} has a prefix length: write the address without it, such as 10.20.0.12"
        )
    try:
        if len(alone) > _LONGEST_ADDRESS:
            raise passed.refused(f"{reprlib.repr(alone)} is too long: write an address such as 10.20.0.12")
        address = _ADDRESS.validate_python(alone)
    except ValidationError as error:
        raise passed.refused(f"{explain(error)}. Write addresses such as 10.20.0.12, fd00:20::12") from None
    if slash and not _is_prefix(prefix, address.max_prefixlen):
        raise passed.refused(
            f"{reprlib.repr(text)} has no prefix length from 0 to {address.max_prefixlen}: write one, or "
            "the address alone"
        )
    return address


def _is_prefix(text: str, longest: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(longest)) and int(text) <= longest
