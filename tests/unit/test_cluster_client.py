"""The console in a cluster: what it asks of Kubernetes' API, and what it makes of the answers."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from console.cluster.access import IN_CLUSTER, connect
from console.cluster.app import App, Workload
from console.cluster.client import FIELD_MANAGER, Cluster, Placed, Pod
from console.cluster.manifests import labels, manifest
from console.cluster.room import Room
from schemas.errors import Code, ServiceError
from tests.kubernetes_api import KubernetesApi, Refusal, kubernetes_api

WEB = App("shop", "web", "StatefulSet", "nginx:1.29", "prod", "web", "pinned", replicas=2, port=80)
API = replace(WEB, name="api", kind="Deployment", policy="shared")
APPS = pytest.mark.parametrize("app", [WEB, API], ids=["StatefulSet", "Deployment"])
KEY = ("statefulsets", "shop", "web")


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with kubernetes_api() as running:
        yield running


@pytest.fixture
def cluster(api: KubernetesApi, tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(connect(api.kubeconfig(tmp_path)), timeout_s=20)
    yield found
    found.close()


def refused(call: Any, *args: Any) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        call(*args)
    return caught.value


def put_pod(api: KubernetesApi, app: App, name: str, **status: Any) -> None:
    metadata = {"name": name, "namespace": app.namespace, "labels": labels(app)}
    container = {"name": app.name, "image": app.image}
    spec = {"containers": [container], "nodeName": "node-1"}
    api.store.put("pods", {"metadata": metadata, "spec": spec, "status": {"phase": "Pending", **status}})


def test_namespaces_are_listed_but_those_that_go(api: KubernetesApi, cluster: Cluster):
    leaving = {"name": "old", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    api.store.put("namespaces", {"metadata": leaving})
    api.page = 1
    assert cluster.namespaces() == ("default", "shop")


def test_a_namespace_is_checked(api: KubernetesApi, cluster: Cluster):
    cluster.check_namespace("shop")
    absent = refused(cluster.check_namespace, "absent")
    assert absent.code == Code.INVALID_REQUEST
    assert "kubectl create namespace absent" in absent.message
    assert "RFC 1123" in refused(cluster.check_namespace, "../nodes").message
    assert [each.path for each in api.asked] == ["/api/v1/namespaces/{name}"] * 2


def test_a_namespace_that_is_being_deleted_is_refused(api: KubernetesApi, cluster: Cluster):
    leaving = {"name": "old", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    api.store.put("namespaces", {"metadata": leaving})
    assert "is being deleted" in refused(cluster.check_namespace, "old").message


@APPS
def test_an_app_is_applied_by_the_consoles_own_field_manager_without_force(
    api: KubernetesApi, cluster: Cluster, app: App
):
    applied = cluster.apply(app)
    assert applied.created
    assert applied.changed
    (asked,) = [each for each in api.asked if each.verb == "patch"]
    assert asked.query == {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
    assert asked.body == manifest(app)


@APPS
def test_the_same_app_twice_changes_nothing(cluster: Cluster, app: App):
    first, second = cluster.apply(app), cluster.apply(app)
    assert second.uid == first.uid
    assert not second.created
    assert not second.changed


def test_a_status_that_changes_meanwhile_is_no_change_of_the_app(api: KubernetesApi, cluster: Cluster):
    cluster.apply(WEB)
    api.store.put("statefulsets", {**api.store.objects[KEY], "status": {"replicas": 2}})
    assert not cluster.apply(WEB).changed


def test_another_app_of_that_name_changes_it(api: KubernetesApi, cluster: Cluster):
    cluster.apply(WEB)
    applied = cluster.apply(replace(WEB, replicas=3))
    assert applied.changed
    assert not applied.created
    assert api.store.objects[KEY]["spec"]["replicas"] == 3


def test_a_deployment_of_a_tight_pool_is_applied_without_surge(api: KubernetesApi, cluster: Cluster):
    cluster.apply(API, Room(total=2))
    strategy = api.store.objects["deployments", "shop", "api"]["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_addresses_that_are_chosen_no_more_are_not_asked_for(api: KubernetesApi, cluster: Cluster):
    chosen = (ip_address("10.0.0.5"), ip_address("10.0.0.6"))
    cluster.apply(replace(API, addresses=chosen))
    cluster.apply(API)
    template = api.store.objects["deployments", "shop", "api"]["spec"]["template"]
    assert template == manifest(API)["spec"]["template"]


def test_a_deployment_whose_pool_has_grown_gets_its_surge_back(api: KubernetesApi, cluster: Cluster):
    cluster.apply(API, Room(total=2))
    assert cluster.apply(API, Room(total=9)).changed
    spec = api.store.objects["deployments", "shop", "api"]["spec"]
    assert "strategy" not in spec
    assert spec["template"] == manifest(API)["spec"]["template"]


def test_a_field_that_somebody_else_set_is_a_conflict_that_names_them(api: KubernetesApi, cluster: Cluster):
    cluster.apply(WEB)
    api.store.own(KEY, "kubectl-scale", ".spec.replicas", 5)
    error = refused(cluster.apply, WEB)
    assert error.code == Code.VERSION_CONFLICT
    assert error.fields["conflicts"] == [{"manager": "kubectl-scale", "field": ".spec.replicas"}]
    assert ".spec.replicas is kubectl-scale's" in error.message


@pytest.mark.parametrize("call", ["apply", "delete"])
def test_what_the_console_did_not_make_is_left_alone(api: KubernetesApi, cluster: Cluster, call: str):
    foreign = manifest(WEB)
    foreign["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
    api.store.put("statefulsets", foreign)
    error = refused(getattr(cluster, call), WEB)
    assert error.code == Code.INVALID_REQUEST
    assert "choose another name" in error.message
    assert {each.verb for each in api.asked} == {"get"}


def test_a_namespace_that_is_missing_is_named(cluster: Cluster):
    error = refused(cluster.apply, replace(WEB, namespace="absent"))
    assert "kubectl create namespace absent" in error.message


@pytest.mark.parametrize("verb", ["get", "create", "patch"])
def test_what_rbac_does_not_allow_is_told_with_the_rule_to_add(
    api: KubernetesApi, cluster: Cluster, verb: str
):
    api.denied.add((verb, "statefulsets"))
    error = refused(cluster.apply, WEB)
    assert error.code == Code.SENDER_FORBIDDEN
    assert f'{{apiGroups: ["apps"], resources: [statefulsets], verbs: [{verb}]}}' in error.message
    assert "Role in namespace shop" in error.message


def test_for_what_is_not_in_a_namespace_the_rule_is_a_cluster_roles(api: KubernetesApi, cluster: Cluster):
    api.denied.add(("list", "nodes"))
    error = refused(cluster.nodes)
    assert error.fields["rule"] == '{apiGroups: [""], resources: [nodes], verbs: [list]}'
    assert "to its ClusterRole" in error.message


def test_a_watch_that_rbac_does_not_allow_is_told(api: KubernetesApi, cluster: Cluster):
    api.denied.add(("watch", "nodes"))
    assert refused(list, cluster.node_changes("1", 1)).fields["verb"] == "watch"


def test_what_admission_refuses_is_no_question_of_rights(api: KubernetesApi, cluster: Cluster):
    quota = Refusal(403, 'statefulsets.apps "web" is forbidden: exceeded quota: few')
    api.refusals.append(("patch", quota))
    error = refused(cluster.apply, WEB)
    assert error.code == Code.INVALID_REQUEST
    assert "exceeded quota: few" in error.message


def test_what_is_invalid_is_told_with_the_apis_causes(api: KubernetesApi, cluster: Cluster):
    cause = {
        "reason": "FieldValueForbidden",
        "field": "spec",
        "message": "Forbidden: updates to other fields",
    }
    api.refusals.append(("patch", Refusal(422, "web is invalid", {"causes": [cause]})))
    error = refused(cluster.apply, WEB)
    assert error.code == Code.INVALID_REQUEST
    assert error.fields["causes"] == [{"field": "spec", "message": "Forbidden: updates to other fields"}]
    assert "spec: Forbidden: updates to other fields" in error.message


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, Code.SENDER_FORBIDDEN),
        (429, Code.UNAVAILABLE),
        (500, Code.UNAVAILABLE),
        (503, Code.UNAVAILABLE),
        (504, Code.TIMEOUT),
    ],
)
def test_other_refusals_have_codes_of_their_own(api: KubernetesApi, cluster: Cluster, status: int, code: str):
    api.refusals.append(("get", Refusal(status, "not now")))
    assert refused(cluster.namespaces).code == code
    assert len(api.asked) == 1


def test_an_api_that_is_away_is_unavailable(tmp_path: Path):
    with kubernetes_api() as gone:
        kubeconfig = gone.kubeconfig(tmp_path)
    error = refused(Cluster(connect(kubeconfig)).namespaces)
    assert error.code == Code.UNAVAILABLE
    assert error.retryable


def test_an_api_that_does_not_answer_is_a_timeout(api: KubernetesApi, tmp_path: Path):
    api.stalled.clear()
    cluster = Cluster(connect(api.kubeconfig(tmp_path)), timeout_s=0.2)
    assert refused(cluster.namespaces).code == Code.TIMEOUT
    assert refused(list, cluster.node_changes("1", 0.1)).code == Code.TIMEOUT


def test_something_else_that_answers_is_not_taken_for_the_api(api: KubernetesApi, cluster: Cluster):
    api.foreign = b"<html></html>"
    assert "something else" in refused(cluster.nodes).message
    api.foreign = b'{"items": []}'
    assert refused(cluster.nodes).code == Code.UNAVAILABLE


@APPS
def test_an_app_is_deleted_with_its_pods_first_and_only_the_one_that_was_looked_at(
    api: KubernetesApi, cluster: Cluster, app: App
):
    uid = cluster.apply(app).uid
    assert cluster.delete(Workload(app.namespace, app.name, app.kind)) is True
    (asked,) = [each for each in api.asked if each.verb == "delete"]
    assert asked.body["propagationPolicy"] == "Foreground"
    assert asked.body["preconditions"] == {"uid": uid}
    assert cluster.delete(app) is True


def test_deleting_what_is_gone_is_a_success(cluster: Cluster):
    assert cluster.delete(WEB) is False


def test_an_app_that_was_made_anew_meanwhile_is_not_deleted(api: KubernetesApi, cluster: Cluster):
    cluster.apply(WEB)
    api.refusals.append(("delete", Refusal(409, "Precondition failed: UID in precondition")))
    assert refused(cluster.delete, WEB).code == Code.VERSION_CONFLICT


def test_an_app_that_goes_between_the_look_and_the_deletion_is_gone(api: KubernetesApi, cluster: Cluster):
    cluster.apply(WEB)
    api.refusals.append(("delete", Refusal(404, 'statefulsets.apps "web" not found')))
    assert cluster.delete(WEB) is False


def test_what_the_console_made_in_a_namespace_is_listed(api: KubernetesApi, cluster: Cluster):
    cluster.apply(WEB)
    cluster.apply(API)
    cluster.apply(replace(API, namespace="default"))
    foreign = manifest(replace(API, name="foreign"))
    foreign["metadata"]["labels"] = {}
    api.store.put("deployments", foreign)
    cluster.delete(API)
    assert cluster.apps("shop") == (
        Placed(Workload("shop", "api", "Deployment"), "nginx:1.29", 2, 0, "prod", "web", leaving=True),
        Placed(Workload("shop", "web", "StatefulSet"), "nginx:1.29", 2, 0, "prod", "web"),
    )


def test_the_apps_pods_are_listed_and_no_others(api: KubernetesApi, cluster: Cluster):
    put_pod(api, WEB, "web-1", containerStatuses=[waiting("ImagePullBackOff")])
    ips = [{"ip": "10.0.0.5"}, {"ip": "fd00::5"}]
    put_pod(api, WEB, "web-0", phase="Running", podIP="10.0.0.5", podIPs=ips)
    put_pod(api, API, "api-x")
    put_pod(api, replace(WEB, namespace="default"), "web-0")
    api.page = 1
    assert cluster.pods(WEB) == (
        Pod("web-0", "Running", ("10.0.0.5", "fd00::5"), "node-1"),
        Pod("web-1", "Pending", (), "node-1", waiting="ImagePullBackOff"),
    )


def waiting(reason: str) -> dict[str, Any]:
    return {
        "name": "web",
        "image": "nginx:1.29",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": {"reason": reason}},
    }


def test_pods_are_watched_as_they_come_change_and_go(api: KubernetesApi, cluster: Cluster):
    put_pod(api, WEB, "web-0")
    seen = cluster.watch_pods(WEB, for_s=30)
    assert next(seen) == Pod("web-0", "Pending", (), "node-1")
    put_pod(api, WEB, "web-0", phase="Running", podIP="10.0.0.5")
    assert next(seen) == Pod("web-0", "Running", ("10.0.0.5",), "node-1")
    put_pod(api, API, "api-x")
    put_pod(api, WEB, "web-1")
    assert next(seen).name == "web-1"
    api.store.remove("pods", "web-0", "shop")
    gone = next(seen)
    assert (gone.name, gone.gone) == ("web-0", True)
    seen.close()


def test_pods_that_went_while_the_watch_was_too_old_are_gone(api: KubernetesApi, cluster: Cluster):
    put_pod(api, WEB, "web-0")
    put_pod(api, WEB, "web-1")
    seen = cluster.watch_pods(WEB, for_s=30)
    assert {next(seen).name, next(seen).name} == {"web-0", "web-1"}
    with api.store.changed:
        api.store.remove("pods", "web-0", "shop")
        put_pod(api, WEB, "web-2")
        api.store.forget()
    assert {(pod.name, pod.gone) for pod in (next(seen), next(seen))} == {("web-0", True), ("web-2", False)}
    seen.close()


def test_a_watch_ends_in_time(cluster: Cluster):
    assert list(cluster.watch_pods(WEB, for_s=0.1)) == []


def test_a_watch_that_breaks_off_is_told(api: KubernetesApi, cluster: Cluster):
    put_pod(api, WEB, "web-0")
    seen = cluster.watch_pods(WEB, for_s=30)
    next(seen)
    put_pod(api, WEB, "web-1")
    next(seen)
    api.cut()
    assert refused(next, seen).code == Code.UNAVAILABLE


def test_a_kubeconfig_that_cannot_be_used_says_so(tmp_path: Path):
    for text in (None, "", "{", "clusters: 5", "[]"):
        file = tmp_path / "kubeconfig"
        if text is not None:
            file.write_text(text)
        error = refused(connect, file)
        assert error.code == Code.NOT_PROVISIONED
        assert str(file) in error.message


def test_kubernetes_client_is_not_imported_before_it_is_used():
    modules = "console.cluster.access, console.cluster.client, console.cluster.fencing"
    program = f"import sys, {modules}; sys.exit('kubernetes' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_in_a_cluster_it_takes_the_pods_service_account(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    error = refused(connect, IN_CLUSTER)
    assert error.code == Code.NOT_PROVISIONED
    assert "name a kubeconfig" in error.message
