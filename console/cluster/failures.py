"""What Kubernetes' API refuses, as errors that say what to do about it. Pure.

A refusal is a `Status` object (apimachinery, pkg/apis/meta/v1): reason, message, and causes by field.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.errors import Code, ServiceError

_DENIED = re.compile(r'cannot (?P<verb>[a-z]+) resource "(?P<resource>[a-z/]+)"')
_MANAGER = re.compile(r'conflict with "(?P<manager>[^"]*)"')
_SHOWN = 5
_LONGEST = 500


class Expired(Exception):
    """What is watched has moved on too far (410 Gone): it has to be listed anew."""


class Absent(ServiceError):
    """There is no such object (404)."""


@dataclass(frozen=True)
class Call:
    """One call of the API, in the words of RBAC. `group` is empty for the core group."""

    verb: str
    group: str
    resource: str
    namespace: str | None = None
    name: str | None = None

    @property
    def where(self) -> str:
        """In which part of the cluster."""
        return f"in namespace {self.namespace}" if self.namespace else "in the cluster"

    def __str__(self) -> str:
        what = f"{self.resource} {self.name}" if self.name else self.resource
        return f"{self.verb} {what} {self.where}"


def refusal(call: Call, status: int, body: str | None) -> ServiceError:
    """The error that an HTTP answer of `status` stands for; `body` is its text. Raises `Expired` for 410."""
    found = _status(body)
    message = str(found.get("message") or f"HTTP status {status}")[:_LONGEST]
    if status == 410:
        raise Expired(message)
    explain = _BY_STATUS.get(status)
    if explain is not None:
        return explain(call, found, message)
    if status >= 500:
        return _busy(call, found, f"{message} ({status})")
    return _invalid(call, found, message)


def _status(body: str | None) -> Mapping[str, Any]:
    """The `Status` in an answer; empty where there is none, as from a proxy on the way."""
    try:
        found = json.loads(body or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) and found.get("kind") == "Status" else {}


def _causes(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    details = found.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    return [cause for cause in causes if isinstance(cause, dict)] if isinstance(causes, list) else []


def _unauthorized(_call: Call, _found: Mapping[str, Any], _message: str) -> ServiceError:
    return ServiceError(
        Code.SENDER_FORBIDDEN,
        "Kubernetes does not know the console's account (401): its token or certificate has expired or is "
        "another cluster's. Renew the kubeconfig, or the service account's token",
    )


def _late(call: Call, _found: Mapping[str, Any], message: str) -> ServiceError:
    return ServiceError(Code.TIMEOUT, f"Kubernetes did not {call} in time: {message}")


def _busy(call: Call, _found: Mapping[str, Any], message: str) -> ServiceError:
    return ServiceError(Code.UNAVAILABLE, f"Kubernetes cannot {call} now: {message}. Try again in a while")


def _forbidden(call: Call, _found: Mapping[str, Any], message: str) -> ServiceError:
    denied = _DENIED.search(message)
    if denied is None:  # not RBAC: admission, a quota, a namespace that is being deleted
        return ServiceError(
            Code.INVALID_REQUEST, f"Kubernetes refuses to {call}: {message}. Mend what it names and try again"
        )
    verb, resource = denied["verb"], denied["resource"]
    rule = f'{{apiGroups: ["{call.group}"], resources: [{resource}], verbs: [{verb}]}}'
    role = f"Role in namespace {call.namespace}" if call.namespace else "ClusterRole"
    return ServiceError(
        Code.SENDER_FORBIDDEN,
        f"the console's account may not {verb} {resource} {call.where}: add the rule {rule} to its {role} "
        "(docs/apps.md has all it needs)",
        verb=verb,
        resource=resource,
        group=call.group,
        namespace=call.namespace,
        rule=rule,
    )


def _not_found(call: Call, found: Mapping[str, Any], message: str) -> ServiceError:
    details = found.get("details")
    if isinstance(details, dict) and details.get("kind") == "namespaces":
        return no_namespace(str(details.get("name") or call.namespace))
    return Absent(Code.INVALID_REQUEST, f"Kubernetes cannot {call}: {message}")


def no_namespace(name: str) -> ServiceError:
    """The error for a namespace that is not there."""
    return Absent(
        Code.INVALID_REQUEST,
        f"the cluster has no namespace {name}: make it with `kubectl create namespace {name}`, or choose "
        "another one",
        field="namespace",
    )


def _conflict(call: Call, found: Mapping[str, Any], message: str) -> ServiceError:
    conflicts = []
    for cause in _causes(found):
        if cause.get("reason") == "FieldManagerConflict":
            named = _MANAGER.search(str(cause.get("message")))
            manager = named["manager"] if named else "somebody else"
            conflicts.append({"manager": manager, "field": str(cause.get("field"))})
    if not conflicts:
        return ServiceError(
            Code.VERSION_CONFLICT,
            f"Kubernetes did not {call}, which somebody changed meanwhile: {message}. Look again, and repeat",
        )
    told = ", ".join(f"{each['field']} is {each['manager']}'s" for each in conflicts[:_SHOWN])
    more = f" (and {len(conflicts) - _SHOWN} more)" if len(conflicts) > _SHOWN else ""
    return ServiceError(
        Code.VERSION_CONFLICT,
        f"others set fields of {call.resource} {call.namespace}/{call.name} that differ from this app: "
        f"{told}{more}. Take their values into the app, or have them give the fields up; nothing was changed",
        conflicts=conflicts,
    )


def _invalid(call: Call, found: Mapping[str, Any], message: str) -> ServiceError:
    causes = [
        {"field": str(cause.get("field") or ""), "message": str(cause.get("message") or "")[:_LONGEST]}
        for cause in _causes(found)
    ]
    told = "; ".join(f"{cause['field']}: {cause['message']}" for cause in causes[:_SHOWN]) or message
    more = f" (and {len(causes) - _SHOWN} more)" if len(causes) > _SHOWN else ""
    return ServiceError(Code.INVALID_REQUEST, f"Kubernetes refuses to {call}: {told}{more}", causes=causes)


_BY_STATUS: Mapping[int, Callable[[Call, Mapping[str, Any], str], ServiceError]] = {
    401: _unauthorized,
    403: _forbidden,
    404: _not_found,
    408: _late,
    409: _conflict,
    429: _busy,
    504: _late,
}
