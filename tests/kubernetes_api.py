"""A small stand-in for Kubernetes' API server, over HTTP, that reads requests by the published OpenAPI.

It has namespaces, pods, nodes, and apps/v1 Deployments and StatefulSets with server-side apply. No
controllers run: tests put pods and nodes themselves.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

from tests.kubernetes_rules import Operation, Violation, complain, read
from tests.kubernetes_store import KINDS, Conflict, Object, Store

TOKEN = "token-of-the-console"
USER = "system:serviceaccount:moorage:console"
REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True)
class Refusal(Exception):
    """An answer that is none of success."""

    status: int
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> Object:
        """As the API tells it."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": REASONS[self.status],
            "details": dict(self.details),
            "code": self.status,
        }


class KubernetesApi:
    """The server; what it was asked is in `asked`, what the OpenAPI does not know of that in `violations`."""

    def __init__(self) -> None:
        self.store = Store()
        self.asked: list[Operation] = []
        self.violations: list[str] = []
        self.denied: set[tuple[str, str]] = set()
        """Verbs and resources that RBAC does not allow."""
        self.refusals: list[tuple[str, Refusal]] = []
        """Verbs of HTTP, each with what the next such request is answered with."""
        self.stalled = threading.Event()
        """While it is clear, nothing is answered."""
        self.stalled.set()
        self.page = 500
        """The most objects that a page of a list has."""
        self.second = 1.0
        """How long a second of a watch takes, in seconds."""
        self.foreign: bytes | None = None
        """What everything is answered with, by a server that is none of Kubernetes."""
        self.cuts = 0
        """Counts up when all watches are to break off."""
        self.url = ""

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig of this server."""
        file = folder / "kubeconfig"
        entry = {"cluster": "stand-in", "user": "console"}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "stand-in",
            "clusters": [{"name": "stand-in", "cluster": {"server": self.url}}],
            "users": [{"name": "console", "user": {"token": TOKEN}}],
            "contexts": [{"name": "stand-in", "context": entry}],
        }
        file.write_text(yaml.safe_dump(document))
        return file

    def cut(self) -> None:
        """Break all watches off, in the middle."""
        with self.store.changed:
            self.cuts += 1
            self.store.changed.notify_all()

    # Below, what the server does with a request that the OpenAPI knows.

    def answer(self, operation: Operation) -> Object:
        """What a request that is no watch is answered with. Raises Refusal."""
        resource, namespace, name = _target(operation)
        if operation.verb == "get":
            self._authorize("get" if name else "list", resource, namespace)
            return self._get(resource, namespace, name) if name else self._list(operation)
        if operation.verb == "patch":
            return self._apply(operation)
        self._authorize("delete", resource, namespace)
        return self._delete(operation)

    def _authorize(self, verb: str, resource: str, namespace: str) -> None:
        if (verb, resource) in self.denied:
            group = "apps" if KINDS[resource][0] == "apps/v1" else ""
            where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
            raise Refusal(
                403,
                f'{resource} is forbidden: User "{USER}" cannot {verb} resource "{resource}" in API group '
                f'"{group}" {where}',
                {"kind": resource},
            )

    def _get(self, resource: str, namespace: str, name: str) -> Object:
        found = self.store.objects.get((resource, namespace, name))
        if found is None:
            raise Refusal(404, f'{resource} "{name}" not found', {"kind": resource, "name": name})
        return found

    def _list(self, operation: Operation) -> Object:
        resource, namespace, _ = _target(operation)
        with self.store.changed:
            found = [
                item
                for key, item in sorted(self.store.objects.items())
                if key[0] == resource and key[1] == namespace and self._selects(operation, item)
            ]
            version = str(self.store.version)
        begin = int(operation.query.get("continue") or 0)
        end = begin + min(int(operation.query.get("limit") or self.page), self.page)
        metadata = {"resourceVersion": version}
        if end < len(found):
            metadata["continue"] = str(end)
        api_version, kind = KINDS[resource]
        return {
            "kind": f"{kind}List",
            "apiVersion": api_version,
            "metadata": metadata,
            "items": found[begin:end],
        }

    def _selects(self, operation: Operation, item: Object) -> bool:
        wanted = operation.query.get("labelSelector")
        labels = item["metadata"].get("labels") or {}
        pairs = (pair.split("=") for pair in wanted.split(",")) if wanted else ()
        return all(labels.get(label) == value for label, value in pairs)

    def _apply(self, operation: Operation) -> Object:
        resource, namespace, name = _target(operation)
        self._authorize("patch", resource, namespace)
        if operation.media != "application/apply-patch+yaml":
            raise Refusal(415, "this server only applies: the media type is another kind of patch")
        manager, wanted = operation.query.get("fieldManager"), operation.body
        if not manager:
            raise Refusal(400, "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value")
        if operation.query.get("force"):
            self.violations.append("apply is forced")
        if (wanted["metadata"]["name"], wanted["metadata"]["namespace"]) != (name, namespace):
            raise Refusal(400, "the name of the object does not match the name on the URL")
        if (wanted["apiVersion"], wanted["kind"]) != KINDS[resource]:
            raise Refusal(400, "the kind of the object does not match the URL")
        key = (resource, namespace, name)
        if key not in self.store.objects:
            self._authorize("create", resource, namespace)
            if ("namespaces", "", namespace) not in self.store.objects:
                raise Refusal(
                    404, f'namespaces "{namespace}" not found', {"kind": "namespaces", "name": namespace}
                )
        _validate(wanted)
        try:
            found, _ = self.store.apply(key, wanted, manager)
        except Conflict as error:
            raise _conflict(error) from error
        return found

    def _delete(self, operation: Operation) -> Object:
        resource, namespace, name = _target(operation)
        found, options = self._get(resource, namespace, name), operation.body
        uid = (options.get("preconditions") or {}).get("uid")
        if uid is not None and uid != found["metadata"]["uid"]:
            raise Refusal(409, f"Precondition failed: UID in precondition: {uid}")
        self.store.mark_deleted((resource, namespace, name))
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    def watch(self, operation: Operation) -> Iterator[Object]:
        """The events of a watch, until its time is over or it is cut off. Raises Refusal at once."""
        resource, namespace, _ = _target(operation)
        self._authorize("watch", resource, namespace)
        return self._events(operation, resource, namespace)

    def _events(self, operation: Operation, resource: str, namespace: str) -> Iterator[Object]:
        seen, cuts = int(operation.query.get("resourceVersion") or 0), self.cuts
        until = time.monotonic() + operation.query.get("timeoutSeconds", 60) * self.second
        while True:
            with self.store.changed:
                if seen < self.store.compacted:
                    gone = Refusal(410, f"too old resource version: {seen} ({self.store.compacted})")
                    fresh = [(seen, "ERROR", resource, gone.document())]
                else:
                    fresh = [each for each in self.store.events if each[0] > seen]
                if not fresh:
                    left = until - time.monotonic()
                    if left <= 0:
                        return
                    self.store.changed.wait(min(left, 0.2))
            if self.cuts != cuts:
                raise ConnectionAbortedError
            for version, kind, of, item in fresh:
                seen = version
                here = item.get("metadata", {}).get("namespace", "") == namespace
                if kind == "ERROR" or (of == resource and here and self._selects(operation, item)):
                    yield {"type": kind, "object": item}
                if kind == "ERROR":
                    return


def _target(operation: Operation) -> tuple[str, str, str]:
    """Resource, namespace and name; empty where there is none."""
    (resource,) = re.findall(r"/([a-z]+)(?:/{name})?$", operation.path)
    return resource, operation.parameters.get("namespace", ""), operation.parameters.get("name", "")


def _validate(wanted: Object) -> None:
    """The part of apps/v1's validation that a wrong manifest runs into most often."""
    spec = wanted["spec"]
    causes = []
    if spec["selector"].get("matchLabels") != spec["template"]["metadata"].get("labels"):
        causes.append(("spec.template.metadata.labels", "Invalid value: selector does not match labels"))
    if spec.get("replicas", 1) < 0:
        causes.append(("spec.replicas", "Invalid value: must be greater than or equal to 0"))
    surge = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    if surge.get("maxSurge") == 0 and surge.get("maxUnavailable") == 0:
        causes.append(("spec.strategy.rollingUpdate.maxUnavailable", "Invalid value: may not be 0"))
    if causes:
        listed = [{"reason": "FieldValueInvalid", "field": path, "message": text} for path, text in causes]
        raise Refusal(422, f"{wanted['kind']} is invalid", {"causes": listed})


def _conflict(error: Conflict) -> Refusal:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "field": path,
            "message": f'conflict with "{manager}" using apps/v1',
        }
        for path, manager in error.conflicts
    ]
    return Refusal(409, f"Apply failed with {len(causes)} conflicts", {"causes": causes})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: KubernetesApi

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.api.stalled.wait()
        if self.api.foreign is not None:
            self._send(200, self.api.foreign)
            return
        try:
            self._authenticate()
            operation = self._read(body)
            self.api.asked.append(operation)
            self._refuse_as_told(operation)
            if operation.query.get("watch"):
                self._stream(operation)
            else:
                answer = self.api.answer(operation)
                self.api.violations += complain(operation.answer, answer, strict=False)
                self._reply(200, answer)
        except Refusal as refusal:
            self._reply(refusal.status, refusal.document())

    def _authenticate(self) -> None:
        if self.headers.get("Authorization", "").removeprefix("Bearer ") != TOKEN:
            raise Refusal(401, "Unauthorized")

    def _read(self, body: bytes) -> Operation:
        url = urlsplit(self.path)
        query = parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
        try:
            return read(self.command.lower(), url.path, query, self.headers.get("Content-Type"), body)
        except Violation as violation:
            self.api.violations.append(str(violation))
            raise Refusal(400, str(violation)) from violation

    def _refuse_as_told(self, operation: Operation) -> None:
        for told in self.api.refusals:
            if told[0] == operation.verb:
                self.api.refusals.remove(told)
                raise told[1]

    def _reply(self, status: int, document: Object) -> None:
        self._send(status, json.dumps(document).encode())

    def _send(self, status: int, text: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _stream(self, operation: Operation) -> None:
        events = self.api.watch(operation)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        # Said beforehand: a client would else take the connection up again as it is being closed.
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            for event in events:
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            pass  # whoever watched has left, or it was cut off


@contextmanager
def kubernetes_api() -> Iterator[KubernetesApi]:
    """A server with the namespaces default and shop. At the end nothing may be against the OpenAPI."""
    api = KubernetesApi()
    for name in ("default", "shop"):
        api.store.put("namespaces", {"metadata": {"name": name}, "status": {"phase": "Active"}})
    handler = type("Handler", (_Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield api
    finally:
        api.stalled.set()
        api.cut()
        server.shutdown()
        server.server_close()
        thread.join()
    assert api.violations == []


def wait_until(condition: Callable[[], Any], limit_s: float = 20) -> None:
    """Until `condition()` holds."""
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.01)
