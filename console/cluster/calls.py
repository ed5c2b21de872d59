"""Calls of Kubernetes' API with time limits: one answer, a whole list, what changes from then on.

Objects are read as plain mappings, not as the client's models, so that a field which a newer or older
server has does not stand in the way.
"""

import json
import math
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from console.cluster.failures import Call, refusal
from schemas.errors import Code, ServiceError

Object = Mapping[str, Any]
_PAGE = 500
_MOST_PAGES = 1000


@dataclass(frozen=True)
class Listing:
    """All objects of a kind at one moment; changes can be watched from `version` on."""

    items: tuple[Object, ...]
    version: str


@dataclass(frozen=True)
class Change:
    """`kind` is ADDED, MODIFIED or DELETED; for BOOKMARK only `version` counts."""

    kind: str
    object: Object
    version: str


def answer(call: Call, method: Callable[..., Any], *args: Any, timeout_s: float, **query: Any) -> Object:
    """The object that `method` answers with, within `timeout_s` seconds.

    Raises `unavailable`, `timeout`, `sender_forbidden`, `invalid_request`, `version_conflict`; `Expired`.
    """
    with closing(_send(call, method, *args, limits=(timeout_s, timeout_s), **query)) as response:
        return _object(call, _read(call, response.read))


def listing(call: Call, method: Callable[..., Any], *args: Any, timeout_s: float, **query: Any) -> Listing:
    """All objects, page by page, each within `timeout_s` seconds: one consistent view. Raises as `answer`."""
    items: list[Object] = []
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        more = {"_continue": cursor} if cursor else {}
        page = answer(call, method, *args, timeout_s=timeout_s, limit=_PAGE, **query, **more)
        if not str(page.get("kind")).endswith("List"):
            raise _garbled(call)
        metadata = page.get("metadata") or {}
        items += page.get("items") or ()
        cursor = metadata.get("continue")
        if not cursor:
            return Listing(tuple(items), str(metadata.get("resourceVersion") or ""))
    raise ServiceError(Code.INTERNAL, f"the pages of {call} do not end; report this as a bug")


def changes(
    call: Call,
    method: Callable[..., Any],
    *args: Any,
    version: str,
    for_s: float,
    timeout_s: float,
    **query: Any,
) -> Iterator[Change]:
    """What changes after `version`, for `for_s` seconds at most. Raises as `answer`.

    `Expired` says that changes were lost and all has to be listed anew. A stream that breaks off raises
    `unavailable`: it can be gone on with from the last change's version.
    """
    response = _send(
        call,
        method,
        *args,
        limits=(timeout_s, for_s + timeout_s),
        watch=True,
        resource_version=version,
        allow_watch_bookmarks=True,
        timeout_seconds=max(1, math.ceil(for_s)),
        **query,
    )
    with closing(response):
        chunks = response.stream()
        rest = b""
        while (chunk := _read(call, lambda: next(chunks, None))) is not None:
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (_change(call, line) for line in lines if line.strip())


def _change(call: Call, line: bytes) -> Change:
    event = _object(call, line)
    found = event.get("object")
    if not isinstance(found, dict):
        raise _garbled(call)
    if event.get("type") == "ERROR":
        raise refusal(call, int(found.get("code") or 500), json.dumps(found))
    version = str((found.get("metadata") or {}).get("resourceVersion") or "")
    return Change(str(event.get("type")), found, version)


def _send(
    call: Call, method: Callable[..., Any], *args: Any, limits: tuple[float, float], **query: Any
) -> Any:
    """The response, its body not read yet. `limits`: to connect, and for each read, in seconds."""

    def sent() -> Any:
        return method(*args, _preload_content=False, _request_timeout=limits, **query)

    return _read(call, sent)


def _read(call: Call, step: Callable[[], Any]) -> Any:
    """What `step` comes to, the client's errors as ours."""
    from kubernetes.client.exceptions import ApiException  # noqa: PLC0415  see access.py
    from kubernetes.config import ConfigException  # noqa: PLC0415
    from urllib3.exceptions import HTTPError, ReadTimeoutError  # noqa: PLC0415

    try:
        return step()
    except ApiException as error:
        if not error.status:  # the client's own: TLS
            raise _away(call, error.reason) from error
        raise refusal(call, int(error.status), error.body) from error
    except ConfigException as error:  # a token that ran out, and that cannot be renewed
        raise ServiceError(
            Code.SENDER_FORBIDDEN, f"the console's token for Kubernetes cannot be renewed: {error}"
        ) from error
    except ReadTimeoutError as error:
        raise ServiceError(
            Code.TIMEOUT, f"Kubernetes' API did not answer in time ({call}): look whether it is overloaded"
        ) from error
    except (HTTPError, OSError, ssl.SSLError) as error:
        raise _away(call, error) from error


def _away(call: Call, reason: object) -> ServiceError:
    return ServiceError(
        Code.UNAVAILABLE,
        f"Kubernetes' API cannot be reached ({call}): {reason}. Look whether the address in the "
        "kubeconfig is right and the API server runs",
    )


def _object(call: Call, text: bytes) -> Object:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise _garbled(call) from error
    if not isinstance(found, dict):
        raise _garbled(call)
    return found


def _garbled(call: Call) -> ServiceError:
    return ServiceError(
        Code.UNAVAILABLE,
        f"what answers at the address of Kubernetes' API is something else ({call})",
    )
