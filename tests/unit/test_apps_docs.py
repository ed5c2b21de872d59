"""docs/apps.md: its YAML is what the console makes, its rights are those that the console uses."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from console.cluster.access import connect
from console.cluster.app import LONGEST_NAME, MOST_REPLICAS, App
from console.cluster.client import FIELD_MANAGER, Cluster
from console.cluster.evidence import ACTOR, OUT_OF_SERVICE
from console.cluster.manifests import manifest_yaml
from schemas.errors import ServiceError
from tests.kubernetes_api import kubernetes_api
from tests.kubernetes_rules import Operation

PAGE = (Path(__file__).parent.parent.parent / "docs" / "apps.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
WEB = App("shop", "web", "StatefulSet", "nginx:1.29", "prod", "web", "pinned", replicas=3, port=8080)
Right = tuple[str, str, str]
"""API group, resource and verb."""


def test_the_workload_that_is_shown_is_the_one_that_is_made():
    assert BLOCKS[0] == manifest_yaml(WEB)


def rights(role: dict[str, Any]) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def verbs(operation: Operation) -> set[str]:
    """As RBAC names what a request does."""
    if operation.verb == "get":
        named = operation.path.endswith("{name}")
        return {"get" if named else "watch" if operation.query.get("watch") else "list"}
    return {"patch", "create"} if operation.verb == "patch" else {operation.verb}


def test_the_rights_that_are_shown_are_those_that_are_used(tmp_path: Path):
    with kubernetes_api() as api:
        cluster = Cluster(connect(api.kubeconfig(tmp_path)), timeout_s=20)
        cluster.namespaces()
        cluster.check_namespace("shop")
        for app in (WEB, replace(WEB, name="api", kind="Deployment", policy="shared")):
            cluster.apply(app)
            cluster.delete(app)
            list(cluster.watch_pods(app, for_s=0.1))
        cluster.apps("shop")
        list(cluster.node_changes(cluster.nodes().version, for_s=0.1))
        cluster.close()
    used: dict[bool, set[Right]] = {True: set(), False: set()}
    for operation in api.asked:
        (resource,) = re.findall(r"/([a-z]+)(?:/{name})?$", operation.path)
        group = "apps" if operation.path.startswith("/apis/apps/") else ""
        namespaced = "{namespace}" in operation.path
        used[namespaced] |= {(group, resource, verb) for verb in verbs(operation)}
    shown = [next(yaml.safe_load_all(block)) for block in BLOCKS[1:]]
    assert {role["kind"]: rights(role) for role in shown} == {"ClusterRole": used[False], "Role": used[True]}


def test_a_missing_right_is_told_as_shown(tmp_path: Path):
    with kubernetes_api() as api:
        api.denied.add(("patch", "statefulsets"))
        with pytest.raises(ServiceError) as caught:
            Cluster(connect(api.kubeconfig(tmp_path)), timeout_s=20).apply(WEB)
    assert f"\n{caught.value.message}\n" in PAGE


def test_names_and_numbers_are_those_of_the_code():
    assert f"`{FIELD_MANAGER}`" in PAGE
    assert f"`{OUT_OF_SERVICE}`" in PAGE
    assert f"`{ACTOR}` as the actor" in PAGE
    assert f"at most {LONGEST_NAME} characters" in PAGE
    assert f"1 to {MOST_REPLICAS} replicas" in PAGE
