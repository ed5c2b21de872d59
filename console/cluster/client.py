"""What the console does in a Kubernetes cluster: apply an app, see its pods, delete it, look at Nodes.

Plain calls, to be made off the event loop. Each has a time limit and raises ServiceError:
`unavailable`, `timeout`, `sender_forbidden` (with the RBAC rule to add), `invalid_request` (with the API's
causes), `version_conflict` (with who set the fields).
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from console.cluster.app import App, Kind, Workload, check_namespace
from console.cluster.calls import Change, Listing, Object, answer, changes, listing
from console.cluster.failures import Absent, Call, Expired, no_namespace
from console.cluster.manifests import (
    MANAGED_BY_LABEL,
    MANAGER,
    NETWORK_ANNOTATION,
    POOL_ANNOTATION,
    manifest,
    selector,
)
from console.cluster.room import Room
from schemas.errors import Code, ServiceError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, AppsV1Api, CoreV1Api

FIELD_MANAGER = "moorage-console"
_APPLY = "application/apply-patch+yaml"
_SHORTEST_S = 0.2
"""Streams begin at most this often, in seconds, should the server end each at once."""
_PLURAL: dict[Kind, str] = {"Deployment": "deployments", "StatefulSet": "statefulsets"}


@dataclass(frozen=True)
class Applied:
    """An app as Kubernetes has it now. `changed` is False where it was so before."""

    uid: str
    created: bool
    changed: bool


@dataclass(frozen=True)
class Placed:
    """An app that the console made: how many pods it is to have, how many of them are ready."""

    workload: Workload
    image: str
    replicas: int
    ready: int
    network: str
    pool: str
    leaving: bool = False


@dataclass(frozen=True)
class Pod:
    """A pod of an app. `addresses` are those that Kubernetes knows of, empty until it runs.

    `leaving`: it is being deleted. `waiting`: why its container does not run, such as ImagePullBackOff.
    `gone`: it was there, and is not any more.
    """

    name: str
    phase: str
    addresses: tuple[str, ...] = ()
    node: str | None = None
    leaving: bool = False
    waiting: str | None = None
    gone: bool = False


class Cluster:
    """One cluster. `timeout_s` is how long each call may take, in seconds."""

    def __init__(self, api: "ApiClient", timeout_s: float = 10.0) -> None:
        self._api = api
        self.timeout_s = timeout_s

    def close(self) -> None:
        """Close all connections."""
        self._api.close()

    def namespaces(self) -> tuple[str, ...]:
        """The names of all namespaces that take new objects."""
        found = listing(Call("list", "", "namespaces"), self._core.list_namespace, timeout_s=self.timeout_s)
        return tuple(sorted(item["metadata"]["name"] for item in found.items if not _is_leaving(item)))

    def check_namespace(self, name: str) -> None:
        """Raise `invalid_request` unless there is such a namespace, and it stays."""
        check_namespace(name)
        call = Call("get", "", "namespaces", name=name)
        found = self._find(call, self._core.read_namespace, name)
        if found is None:
            raise no_namespace(name)
        if _is_leaving(found):
            raise ServiceError(
                Code.INVALID_REQUEST,
                f"namespace {name} is being deleted: choose another one, or make it anew once it is gone",
                field="namespace",
            )

    def apply(self, app: App, room: Room | None = None) -> Applied:
        """Make the workload, or bring it in line with `app`; the same app twice changes nothing.

        Server-side apply without force: a field that others set differently is a `version_conflict`. A
        workload of that name which the console did not make is refused.
        """
        before = self._workload(app)
        after = answer(
            self._call("patch", app),
            self._method("patch", app.kind),
            app.name,
            app.namespace,
            manifest(app, room),
            field_manager=FIELD_MANAGER,
            field_validation="Strict",
            _content_type=_APPLY,
            timeout_s=self.timeout_s,
        )
        metadata = after["metadata"]
        known = before["metadata"] if before is not None else {}
        created = known.get("uid") != metadata.get("uid")
        same = all(known.get(field) == metadata.get(field) for field in ("uid", "generation", "labels"))
        return Applied(uid=str(metadata.get("uid")), created=created, changed=not same)

    def apps(self, namespace: str) -> tuple[Placed, ...]:
        """What the console made in a namespace, by name."""
        found = []
        for kind, plural in _PLURAL.items():
            listed = listing(
                Call("list", "apps", plural, namespace),
                self._method("list", kind),
                namespace,
                label_selector=f"{MANAGED_BY_LABEL}={MANAGER}",
                timeout_s=self.timeout_s,
            )
            found += [_placed(kind, item) for item in listed.items]
        return tuple(sorted(found, key=lambda placed: (placed.workload.name, placed.workload.kind)))

    def delete(self, app: Workload) -> bool:
        """Delete the workload and, before it, its pods; whether there was one. Twice is a success.

        It is gone when its pods are. Only what the console made is deleted, and only the very object that
        was looked at.
        """
        found = self._workload(app)
        if found is None:
            return False
        uid = found["metadata"].get("uid")
        call = self._call("delete", app)
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground",
            "preconditions": {"uid": uid},
        }
        return (
            self._find(call, self._method("delete", app.kind), app.name, app.namespace, body=body) is not None
        )

    def pods(self, app: Workload) -> tuple[Pod, ...]:
        """The app's pods now, by name."""
        return tuple(sorted(map(_pod, self._pods(app).items), key=lambda pod: pod.name))

    def watch_pods(self, app: Workload, for_s: float) -> Iterator[Pod]:
        """The app's pods now, and then each that comes, changes or goes, for `for_s` seconds.

        It can be left at any time.
        """
        until = time.monotonic() + for_s
        known: dict[str, Pod] = {}
        while True:
            found = self._pods(app)
            now = {pod.name: pod for pod in map(_pod, found.items)}
            yield from (_gone(pod) for name, pod in known.items() if name not in now)
            yield from (pod for name, pod in now.items() if known.get(name) != pod)
            known = now
            try:
                for change in self._pod_changes(app, found.version, until):
                    pod = _gone(_pod(change.object)) if change.kind == "DELETED" else _pod(change.object)
                    if pod.gone:
                        known.pop(pod.name, None)
                    else:
                        known[pod.name] = pod
                    yield pod
            except Expired:
                continue
            return

    def nodes(self) -> Listing:
        """All Nodes."""
        return listing(Call("list", "", "nodes"), self._core.list_node, timeout_s=self.timeout_s)

    def node_changes(self, version: str, for_s: float) -> Iterator[Change]:
        """What changes of Nodes after `version`, for `for_s` seconds. Raises `Expired`: list them anew."""
        call = Call("watch", "", "nodes")
        return changes(call, self._core.list_node, version=version, for_s=for_s, timeout_s=self.timeout_s)

    @cached_property
    def _core(self) -> "CoreV1Api":
        from kubernetes.client import CoreV1Api  # noqa: PLC0415  see access.py

        return CoreV1Api(self._api)

    @cached_property
    def _apps(self) -> "AppsV1Api":
        from kubernetes.client import AppsV1Api  # noqa: PLC0415  see access.py

        return AppsV1Api(self._api)

    def _method(self, verb: str, kind: Kind) -> Callable[..., Any]:
        name = "stateful_set" if kind == "StatefulSet" else "deployment"
        method: Callable[..., Any] = getattr(self._apps, f"{verb}_namespaced_{name}")
        return method

    def _call(self, verb: str, app: Workload) -> Call:
        return Call(verb, "apps", _PLURAL[app.kind], app.namespace, app.name)

    def _workload(self, app: Workload) -> Object | None:
        """The workload of that name; None if there is none. Raises `invalid_request` if it is not ours."""
        found = self._find(self._call("get", app), self._method("read", app.kind), app.name, app.namespace)
        if found is not None and (found["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) != MANAGER:
            raise ServiceError(
                Code.INVALID_REQUEST,
                f"namespace {app.namespace} has a {app.kind} {app.name} that the console did not make (no "
                f"label {MANAGED_BY_LABEL}={MANAGER}): choose another name, or handle it with kubectl",
                field="name",
            )
        return found

    def _find(self, call: Call, method: Callable[..., Any], *args: Any, **query: Any) -> Object | None:
        """As `answer`; None where there is no such object."""
        try:
            return answer(call, method, *args, timeout_s=self.timeout_s, **query)
        except Absent:
            return None

    def _pods(self, app: Workload) -> Listing:
        return listing(
            Call("list", "", "pods", app.namespace),
            self._core.list_namespaced_pod,
            app.namespace,
            label_selector=selector(app),
            timeout_s=self.timeout_s,
        )

    def _pod_changes(self, app: Workload, version: str, until: float) -> Iterator[Change]:
        """Until that time, in as many streams as the server wants."""
        call = Call("watch", "", "pods", app.namespace)
        while (left := until - (began := time.monotonic())) > 0:
            for change in changes(
                call,
                self._core.list_namespaced_pod,
                app.namespace,
                label_selector=selector(app),
                version=version,
                for_s=left,
                timeout_s=self.timeout_s,
            ):
                version = change.version or version
                if change.kind != "BOOKMARK":
                    yield change
            time.sleep(max(0.0, _SHORTEST_S - (time.monotonic() - began)))


def _is_leaving(item: Object) -> bool:
    return bool(item["metadata"].get("deletionTimestamp"))


def _placed(kind: Kind, item: Object) -> Placed:
    spec, template = item["spec"], item["spec"]["template"]
    asked = template["metadata"].get("annotations") or {}
    return Placed(
        workload=Workload(item["metadata"]["namespace"], item["metadata"]["name"], kind),
        image=template["spec"]["containers"][0].get("image") or "",
        replicas=spec.get("replicas", 1),
        ready=(item.get("status") or {}).get("readyReplicas") or 0,
        network=asked.get(NETWORK_ANNOTATION, ""),
        pool=asked.get(POOL_ANNOTATION, ""),
        leaving=_is_leaving(item),
    )


def _pod(item: Object) -> Pod:
    status = item.get("status") or {}
    listed = [each.get("ip") for each in status.get("podIPs") or ()] or [status.get("podIP")]
    waiting = [
        reason
        for each in status.get("containerStatuses") or ()
        if (reason := ((each.get("state") or {}).get("waiting") or {}).get("reason"))
    ]
    return Pod(
        name=item["metadata"]["name"],
        phase=str(status.get("phase") or "Unknown"),
        addresses=tuple(address for address in listed if address),
        node=(item.get("spec") or {}).get("nodeName"),
        leaving=_is_leaving(item),
        waiting=waiting[0] if waiting else None,
    )


def _gone(pod: Pod) -> Pod:
    return Pod(pod.name, pod.phase, pod.addresses, pod.node, leaving=True, gone=True)
