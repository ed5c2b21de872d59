"""The manifest of an app, as Kubernetes' API takes it and as YAML to paste. Pure."""

import re
from typing import Any

import yaml

from console.cluster.app import App, Workload
from console.cluster.room import Room, is_tight

NAME_LABEL = "app.kubernetes.io/name"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGER = "moorage"

NETWORK_ANNOTATION = "moorage.io/network"
POOL_ANNOTATION = "moorage.io/pool"
IP_ANNOTATION = "moorage.io/ip"

_PLAIN = re.compile(r"[A-Za-z][\w./:@*-]+", re.ASCII)
"""Text that no reader of YAML, 1.1 or 1.2, takes for a number; those for booleans PyYAML knows."""


def labels(app: Workload) -> dict[str, str]:
    """What the workload and its pods carry, and what it finds them by."""
    return {NAME_LABEL: app.name, MANAGED_BY_LABEL: MANAGER}


def selector(app: Workload) -> str:
    """The label selector of the app's pods."""
    return ",".join(f"{name}={value}" for name, value in labels(app).items())


def annotations(app: App) -> dict[str, str]:
    """What the pods ask for (docs/pod-requests.md).

    Pods of a pinned pool name no address: each gets its own back, and the first time one of the pool, or
    the one that was reserved for it.
    """
    wished = {NETWORK_ANNOTATION: app.network, POOL_ANNOTATION: app.pool}
    if app.addresses and not app.waits_for_owners:
        wished[IP_ANNOTATION] = ",".join(str(address) for address in app.addresses)
    return wished


def manifest(app: App, room: Room | None = None) -> dict[str, Any]:
    """The StatefulSet or Deployment of apps/v1, in the order that people write it.

    Where `room` has too few addresses for the surge of a rolling update, the Deployment goes without one.
    """
    spec: dict[str, Any] = {"replicas": app.replicas}
    if app.kind == "StatefulSet":
        spec["serviceName"] = app.name
    spec["selector"] = {"matchLabels": labels(app)}
    if app.kind == "Deployment" and room is not None and is_tight(app, room):
        spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    container: dict[str, Any] = {"name": app.name, "image": app.image}
    if app.port is not None:
        container["ports"] = [{"containerPort": app.port}]
    spec["template"] = {
        "metadata": {"labels": labels(app), "annotations": annotations(app)},
        "spec": {"containers": [container]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": app.kind,
        "metadata": {"name": app.name, "namespace": app.namespace, "labels": labels(app)},
        "spec": spec,
    }


def manifest_yaml(app: App, room: Room | None = None) -> str:
    """The same as YAML to paste, under a comment that says what it needs."""
    body = yaml.dump(
        manifest(app, room), Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=1000
    )
    return "".join(f"# {line}\n" for line in _header(app)) + body


def _header(app: App) -> list[str]:
    what = {
        "pinned": "Each pod keeps its address when it is replaced or moves to another node.",
        "shared": "Its pods take addresses of that pool, in no particular order.",
    }
    lines = [
        f"{app.kind} {app.name} with addresses of pool {app.pool} in network {app.network}.",
        what[app.policy],
        f"Network and pool must allow the owners {app.owners}",
    ]
    if app.kind == "StatefulSet":
        lines.append(
            f"serviceName names the headless Service {app.name}, if there is one: for DNS names alone."
        )
    return lines


class _Dumper(yaml.SafeDumper):
    """As SafeDumper, without anchors, and with quotes wherever a reader of YAML could see a number."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = None if _PLAIN.fullmatch(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
