"""One CNI call, read from its variables and its configuration: hostile input made into a checked request.

Sources: SPEC, sections 1 and 2; libcni's skel for the codes. Codes raised: 4 for a variable that is missing
or wrong, 6 for a configuration that is not JSON, 7 for one that is not valid, 1 for a cniVersion that is not
supported or does not have the verb.
"""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import BaseModel, ValidationError

from cni.errors import CniError, SpecCode
from cni.netconf import SUPPORTED_VERSIONS, NetConf, read_configuration
from cni.wishes import Wishes, read_leniently, read_wishes
from schemas.fields import ContainerId, Ifname, Owner
from schemas.validation import explain

__all__ = ["CniRequest", "Command", "NetConf", "parse"]

_PATH_BYTES = 4096  # PATH_MAX


class Command(StrEnum):
    """The verbs of CNI_COMMAND."""

    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    GC = "GC"
    STATUS = "STATUS"
    VERSION = "VERSION"


# CNI_PATH is not asked for: the plugin runs no other, and SPEC calls it optional where a container is named.
_REQUIRED: Mapping[Command, tuple[str, ...]] = {
    Command.ADD: ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    Command.CHECK: ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    Command.DEL: ("CNI_CONTAINERID", "CNI_IFNAME"),
    Command.GC: (),
    Command.STATUS: (),
}
_STRICT = (Command.ADD, Command.CHECK)  # what may fail for a wish
_SINCE: Mapping[Command, str] = {Command.CHECK: "0.4.0", Command.GC: "1.1.0", Command.STATUS: "1.1.0"}


@dataclass(frozen=True)
class CniRequest:
    """A checked call. GC and STATUS name no container: their `container_id` and `ifname` are empty.

    `notes` are what its handler adds to the call's line in the log.
    """

    command: Command
    container_id: str
    netns: str | None
    ifname: str
    args: Mapping[str, str]  # CNI_ARGS
    conf: NetConf
    path: str
    wishes: Wishes
    notes: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def network(self) -> str:
        """The network to attach to: the one that was wished for, else the configuration's."""
        return self.wishes.network

    @property
    def owner(self) -> str:
        """Whom an address is for: the pod, else the container by the name it was given, else by its id."""
        namespace, pod = self.args.get("K8S_POD_NAMESPACE"), self.args.get("K8S_POD_NAME")
        if namespace and pod:
            return f"{namespace}/{pod}"
        return f"container:{pod or self.container_id}"


class _Names(BaseModel):
    CNI_CONTAINERID: ContainerId
    CNI_IFNAME: Ifname


class _OwnerName(BaseModel):
    owner: Owner


def parse(env: Mapping[str, str], stdin: bytes) -> CniRequest:
    """The call that these variables and this configuration make. Raises `CniError` (1, 4, 6 or 7).

    A DEL is refused for less than an ADD: an argument that no ADD could have passed must not keep a runtime
    from ever removing the container. Nor do its wishes: those that cannot be read are dropped. GC and STATUS
    have none but the configuration's.
    """
    command = _command(env)
    _check_variables(command, env)
    args = _arguments(env.get("CNI_ARGS", ""), lenient=command is Command.DEL)
    conf = _configuration(command, stdin)
    ifname = env.get("CNI_IFNAME", "") if _REQUIRED[command] else ""
    read = read_wishes if command in _STRICT else read_leniently
    request = CniRequest(
        command=command,
        container_id=env.get("CNI_CONTAINERID", "") if _REQUIRED[command] else "",
        netns=env.get("CNI_NETNS") or None,
        ifname=ifname,
        args=args,
        conf=conf,
        path=env.get("CNI_PATH", ""),
        wishes=read(conf, args, ifname),
    )
    if request.container_id and command is not Command.DEL:
        _check_owner(request)
    return request


def _command(env: Mapping[str, str]) -> Command:
    asked = env.get("CNI_COMMAND", "")
    if not asked:
        raise _bad_variable("CNI_COMMAND is missing")
    if asked == Command.VERSION:
        raise _bad_variable(
            "CNI_COMMAND VERSION is answered by the executable itself, not by the node worker"
        )
    try:
        return Command(asked)
    except ValueError:
        raise _bad_variable(f"CNI_COMMAND {reprlib.repr(asked)} is not a verb of CNI") from None


def _check_variables(command: Command, env: Mapping[str, str]) -> None:
    missing = [name for name in _REQUIRED[command] if not env.get(name)]
    if missing:
        raise _bad_variable(f"{', '.join(missing)} missing: {command} needs {', '.join(_REQUIRED[command])}")
    if not _REQUIRED[command]:
        return
    try:
        _Names.model_validate(dict(env))
    except ValidationError as error:
        raise _bad_variable(explain(error)) from None
    netns = env.get("CNI_NETNS", "")
    too_long = len(netns.encode(errors="surrogateescape")) >= _PATH_BYTES
    if netns and (too_long or not netns.startswith("/") or not netns.isprintable()):
        raise _bad_variable(
            f"CNI_NETNS {reprlib.repr(netns)} is not the absolute path of a network namespace"
        )


def _arguments(text: str, *, lenient: bool) -> dict[str, str]:
    """CNI_ARGS, `KEY=value;KEY=value`. Every key is taken, with or without IgnoreUnknown."""
    args: dict[str, str] = {}
    for pair in filter(None, text.split(";")):
        key, sign, value = pair.partition("=")
        if key and sign and pair.isprintable():
            args[key] = value
        elif not lenient:
            raise _bad_variable(f"CNI_ARGS: {reprlib.repr(pair)} is not KEY=value in printable text")
    return args


def _check_owner(request: CniRequest) -> None:
    try:
        _OwnerName(owner=request.owner)
    except ValidationError:
        raise _bad_variable(
            f"CNI_ARGS: {reprlib.repr(request.owner)} names no owner: K8S_POD_NAMESPACE and "
            "K8S_POD_NAME must be names as Kubernetes allows them"
        ) from None


def _configuration(command: Command, stdin: bytes) -> NetConf:
    conf = read_configuration(stdin)
    since = _SINCE.get(command, SUPPORTED_VERSIONS[0])
    if SUPPORTED_VERSIONS.index(conf.cniVersion) < SUPPORTED_VERSIONS.index(since):
        raise CniError(
            SpecCode.INCOMPATIBLE_VERSION,
            f"cniVersion {conf.cniVersion} has no {command}: it came with {since}",
        )
    return conf


def _bad_variable(msg: str) -> CniError:
    return CniError(SpecCode.INVALID_ENVIRONMENT, msg)
