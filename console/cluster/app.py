"""An app as a team places it: its workload, how many pods, the pool that its addresses come from. Pure."""

import re
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress

Kind = Literal["StatefulSet", "Deployment"]
AppPolicy = Literal["pinned", "shared"]

LONGEST_NAME = 52
"""Characters. Kubernetes puts up to 11 more behind it in labels of a StatefulSet's pods, which hold 63."""
MOST_REPLICAS = 1000
MOST_ADDRESSES = 64
"""How many addresses a pod can name in its annotation (docs/pod-requests.md)."""

_LONGEST_LABEL = 63
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")  # RFC 1123, section 2.1
# An image reference: github.com/distribution/reference, reference.go.
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABELS = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"(?:{_LABELS}(?:\.{_LABELS})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_IMAGE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PART}(?:/{_PART})*)(?::\w[\w.-]{{0,127}})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)
_LONGEST_IMAGE_NAME = 255


@dataclass(frozen=True)
class Workload:
    """A StatefulSet or Deployment by its name. Raises `invalid_request` as `App` does."""

    namespace: str
    name: str
    kind: Kind

    def __post_init__(self) -> None:
        _check_label("namespace", self.namespace, _LONGEST_LABEL)
        _check_label("name", self.name, LONGEST_NAME)
        if self.kind not in ("StatefulSet", "Deployment"):
            _refuse("kind", self.kind, "write StatefulSet or Deployment")

    @property
    def owners(self) -> str:
        """The owners that network and pool must allow; pods of apps named `NAME-...` are among them, too."""
        return f"{self.namespace}/{self.name}-*"


@dataclass(frozen=True)
class App(Workload):
    """A workload whose pods take their addresses from one pool.

    `addresses` are those that were chosen out of a larger pool; where the pool is just these, or any of
    them will do, there are none. `port` is the container's TCP port. Raises `invalid_request`, with the
    field's name and what to write instead.
    """

    image: str
    network: str
    pool: str
    policy: AppPolicy
    replicas: int = 1
    addresses: tuple[IPAddress, ...] = ()
    port: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_label("network", self.network, _LONGEST_LABEL)
        _check_label("pool", self.pool, _LONGEST_LABEL)
        if self.policy not in ("pinned", "shared"):
            _refuse("policy", self.policy, "write pinned or shared: a reserved pool gives no pod an address")
        if self.kind == "Deployment" and self.policy == "pinned":
            _refuse(
                "policy",
                self.policy,
                "a Deployment's pods have new names each time, so addresses that wait for them would pile "
                "up: take a shared pool that only its pods may use, or a StatefulSet",
            )
        _check_image(self.image)
        _check_number("replicas", self.replicas, 1, MOST_REPLICAS)
        if self.port is not None:
            _check_number("port", self.port, 1, 65535)
        self._check_addresses()

    def _check_addresses(self) -> None:
        if len(set(self.addresses)) != len(self.addresses):
            _refuse("addresses", _listed(self.addresses), "name each address once")
        if self.waits_for_owners:
            return
        if len(self.addresses) > MOST_ADDRESSES:
            _refuse(
                "addresses",
                f"{len(self.addresses)} addresses",
                f"a pod can name at most {MOST_ADDRESSES}: make a pool of just these, and name none",
            )
        for version in sorted({address.version for address in self.addresses}):
            chosen = [address for address in self.addresses if address.version == version]
            if len(chosen) < self.replicas:
                _refuse(
                    "addresses",
                    _listed(self.addresses),
                    f"{len(chosen)} IPv{version} addresses are too few for {self.replicas} pods: choose "
                    f"{self.replicas - len(chosen)} more, or make it {len(chosen)} replicas",
                )

    @property
    def waits_for_owners(self) -> bool:
        """Whether each pod gets its own address back: it then needs none in an annotation."""
        return self.policy == "pinned"

    @property
    def reservations(self) -> tuple[tuple[str, tuple[IPAddress, ...]], ...]:
        """For a pinned pool: each pod's owner and which of the chosen addresses to reserve for it.

        The first address of each family is the first pod's, and so on. Addresses beyond the replicas stay
        for pods to come.
        """
        if not self.waits_for_owners:
            return ()
        families = [[a for a in self.addresses if a.version == version] for version in (4, 6)]
        found = []
        for ordinal in range(self.replicas):
            own = tuple(family[ordinal] for family in families if ordinal < len(family))
            if own:
                found.append((f"{self.namespace}/{self.name}-{ordinal}", own))
        return tuple(found)


def check_namespace(namespace: str) -> None:
    """Raise `invalid_request` unless a namespace can have this name."""
    _check_label("namespace", namespace, _LONGEST_LABEL)


def _check_label(field: str, value: str, longest: int) -> None:
    if not isinstance(value, str) or len(value) > longest or not _LABEL.fullmatch(value):
        _refuse(
            field,
            value,
            f"write 1 to {longest} lower-case letters, digits and '-', beginning and ending with a letter or "
            "a digit (RFC 1123)",
        )


def _check_image(image: str) -> None:
    found = _IMAGE.fullmatch(image) if isinstance(image, str) else None
    if found is None:
        _refuse(
            "image",
            image,
            "write an image such as nginx:1.29 or registry.example.com/team/web@sha256:..., in lower case "
            "and without https://",
        )
    if len(found["name"]) > _LONGEST_IMAGE_NAME:
        _refuse("image", image, f"its name may have {_LONGEST_IMAGE_NAME} characters at most")


def _check_number(field: str, value: int, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        _refuse(field, value, f"write a number from {least} to {most}")


def _listed(addresses: tuple[IPAddress, ...]) -> str:
    shown = ", ".join(str(address) for address in addresses[:5])
    return f"{shown}, ..." if len(addresses) > 5 else shown


def _refuse(field: str, value: Any, advice: str) -> NoReturn:
    text = str(value)
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    raise ServiceError(Code.INVALID_REQUEST, f"{field} {shown!r}: {advice}", field=field)
