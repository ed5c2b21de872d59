"""compose/kubernetes/: what Kubernetes takes, by the rules that docs/kubernetes.md states."""

import json
import re
from collections.abc import Iterator
from configparser import ConfigParser
from typing import Any

import pytest
import yaml

from compose.settings import Settings
from tests.conftest import IN_CI, ROOT
from tests.kubernetes_manifests import (
    CLUSTERS,
    MANIFESTS,
    NODE_OVERLAYS,
    PARTS,
    Manifest,
    PodTemplate,
    pods,
    rendered,
    why_not_rendered,
)
from tests.kubernetes_rules import complain

pytestmark = pytest.mark.skipif(not IN_CI and why_not_rendered() is not None, reason=str(why_not_rendered()))

ALL = [*CLUSTERS, *PARTS]
DEFINITIONS = {
    "v1": "io.k8s.api.core.v1",
    "apps/v1": "io.k8s.api.apps.v1",
    "batch/v1": "io.k8s.api.batch.v1",
    "networking.k8s.io/v1": "io.k8s.api.networking.v1",
    "policy/v1": "io.k8s.api.policy.v1",
    "rbac.authorization.k8s.io/v1": "io.k8s.api.rbac.v1",
}
FIGURES = json.loads((ROOT / "bench" / "results.json").read_text())["figures"]


def every_pod() -> Iterator[tuple[str, PodTemplate]]:
    for folder in ALL:
        for pod in pods(rendered(folder)):
            yield folder, pod


def every_container() -> Iterator[tuple[str, PodTemplate, Manifest]]:
    """The folder, the pod and the container, of all there are."""
    for folder, pod in every_pod():
        for container in pod.containers():
            yield f"{folder}: {container['name']}", pod, container


def named(folder: str, kind: str, name: str) -> Manifest:
    (found,) = (item for item in rendered(folder) if (item["kind"], item["metadata"]["name"]) == (kind, name))
    return found


def container(folder: str, component: str, name: str) -> Manifest:
    pod = next(pod for pod in pods(rendered(folder)) if pod.component == component)
    return next(item for item in pod.containers() if item["name"] == name)


def environment(item: Manifest) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in item.get("env", [])}


def mebibytes(quantity: str) -> int:
    assert quantity.endswith("Mi"), quantity
    return int(quantity.removesuffix("Mi"))


def is_looping(address: str) -> bool:
    return address.startswith("127.0.0.1:")


@pytest.mark.parametrize("folder", ALL)
def test_kubernetes_takes_each_object_and_knows_each_of_its_fields(folder: str):
    for item in rendered(folder):
        complaints = complain(f"{DEFINITIONS[item['apiVersion']]}.{item['kind']}", item)
        assert complaints == [], f"{item['kind']} {item['metadata']['name']}"


def test_every_folder_is_looked_at_and_every_file_is_used():
    found = {path.parent.relative_to(MANIFESTS).as_posix() for path in MANIFESTS.rglob("kustomization.yaml")}
    assert found == set(ALL)
    for folder in ALL:
        listed = yaml.safe_load((MANIFESTS / folder / "kustomization.yaml").read_text())
        used = {*listed.get("resources", []), *listed.get("patchesStrategicMerge", [])}
        files = {path.name for path in (MANIFESTS / folder).glob("*.yaml")}
        assert used == files - {"kustomization.yaml"}, folder


def test_nothing_may_write_to_its_root_file_system():
    for where, _, item in every_container():
        assert item["securityContext"]["readOnlyRootFilesystem"] is True, where


def test_nothing_is_privileged_and_the_node_worker_alone_has_capabilities():
    for where, pod, item in every_container():
        context = item["securityContext"]
        assert not context.get("privileged"), where
        assert context["capabilities"]["drop"] == ["ALL"], where
        added = set(context["capabilities"].get("add", []))
        worker = item["name"] == "node"
        assert added == (NODE_OVERLAYS[where.split(":")[0]] if worker else set()), where
        assert context.get("allowPrivilegeEscalation") is (None if worker else False), where
        assert pod.effective(item, "seccompProfile") == {"type": "RuntimeDefault"}, where


def test_only_what_works_on_the_node_itself_is_root():
    for where, pod, item in every_container():
        if pod.component in ("node", "uninstall"):
            assert pod.effective(item, "runAsUser") == 0, where
        else:
            assert pod.effective(item, "runAsNonRoot") is True, where
            assert pod.effective(item, "runAsUser") == 10480, where


def test_only_a_console_that_makes_apps_gets_a_token_for_kubernetes():
    for folder, pod in every_pod():
        wanted = (folder, pod.component) == ("overlays/apps", "console")
        assert pod.spec["automountServiceAccountToken"] is wanted, (folder, pod.component)
    for folder in ALL:
        for item in rendered(folder):
            if item["kind"] == "ServiceAccount":
                assert item["automountServiceAccountToken"] is False


def test_rights_are_bound_to_the_console_alone():
    bound = [item for folder in ALL for item in rendered(folder) if item["kind"].endswith("Binding")]
    assert len(bound) == 2
    for item in bound:
        assert item["subjects"] == [{"kind": "ServiceAccount", "name": "console", "namespace": "moorage"}]
    assert environment(container("overlays/apps", "console", "console"))["MOORAGE_KUBECONFIG"] == "in-cluster"


def test_the_rights_are_those_that_the_documents_show():
    page = (ROOT / "docs" / "apps.md").read_text()
    shown = [
        item
        for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[1:]
        for item in yaml.safe_load_all(block)
    ]
    made = [*rendered("overlays/apps"), *rendered("overlays/apps/app-namespace")]
    assert [item for item in shown if item not in made] == []


def test_no_secret_is_made_and_each_is_mounted_from_one_by_name():
    for folder in ALL:
        assert all(item["kind"] not in ("Secret", "ConfigMap") for item in rendered(folder)), folder
    for where, pod, item in every_container():
        assert "envFrom" not in item, where
        for name, value in environment(item).items():
            assert "secretKeyRef" not in str(value), f"{where} {name}: an environment is no secret"
            assert not re.search("password|token$|_url$", name, re.IGNORECASE), f"{where} {name}"
        for volume in pod.spec.get("volumes", []):
            if "secret" in volume:
                assert re.fullmatch("moorage-[a-z-]+", volume["secret"]["secretName"]), where
                assert volume["secret"]["defaultMode"] == 0o440, where
                assert pod.spec["securityContext"]["fsGroup"] == 10480, where


def test_no_node_gets_the_credentials_of_others():
    for folder, pod in every_pod():
        if pod.component == "node":
            assert all("secret" not in volume for volume in pod.spec["volumes"]), folder
    url = environment(container("base", "node", "node"))["MOORAGE_AMQP_URL_FILE"]
    assert url == "/etc/moorage/amqp-url"


@pytest.mark.parametrize("folder", CLUSTERS)
def test_what_runs_for_long_has_probes_that_reach_its_monitoring(folder: str):
    for pod in pods(rendered(folder)):
        for item in pod.containers() if pod.component != "migration" else ():
            ports = {port["name"]: port["containerPort"] for port in item["ports"]}
            address = environment(item)["MOORAGE_MONITORING"]
            for probe, path in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
                asked = item[probe]["httpGet"]
                assert asked["path"] == path
                assert address.endswith(f":{ports[asked['port']]}"), item["name"]
                on_node = pod.spec.get("hostNetwork", False)
                assert asked.get("host") == ("127.0.0.1" if on_node else None), item["name"]
                assert on_node or not is_looping(address), "the kubelet asks the pod's own address"


@pytest.mark.parametrize("folder", CLUSTERS)
def test_no_two_that_share_a_node_want_one_port(folder: str):
    ports = [
        port["containerPort"]
        for pod in pods(rendered(folder))
        if pod.spec.get("hostNetwork")
        for item in pod.containers()
        for port in item.get("ports", [])
    ]
    assert len(ports) == len(set(ports)) == 3


def test_only_production_tells_its_metrics_to_other_machines():
    for folder in CLUSTERS:
        for pod in pods(rendered(folder)):
            for item in pod.containers() if pod.spec.get("hostNetwork") else ():
                address = environment(item).get("MOORAGE_MONITORING", "127.0.0.1:0")
                told = folder not in ("base", "overlays/single") and item["name"] in ("allocator", "node")
                assert is_looping(address) is not told, (folder, item["name"])


@pytest.mark.parametrize(
    ("component", "name", "figure"),
    [
        ("node", "node", "worker_rss_mb"),
        ("node", "installer", None),
        ("allocator", "allocator", "rollout_allocator_rss_mb"),
        ("console", "console", None),
    ],
)
def test_requests_leave_room_above_what_was_measured(component: str, name: str, figure: str | None):
    resources = container("base", component, name)["resources"]
    asked, most = mebibytes(resources["requests"]["memory"]), mebibytes(resources["limits"]["memory"])
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    row = rf"^\| {name} \| ([0-9]+) MB \| ([0-9]+) MiB \| ([0-9]+) MiB \|"
    ((measured, request, limit),) = (map(int, found) for found in re.findall(row, page, re.MULTILINE))
    if figure is not None:
        assert measured == round(FIGURES[figure])
    assert (request, limit) == (asked, most)
    assert measured * 1.05 < asked * 1.048576 < measured * 2, "MB and MiB"
    assert 2 * measured < most * 1.048576


def test_everything_asks_for_resources_and_nothing_is_slowed_down():
    for where, _, item in every_container():
        resources = item["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}, where
        assert set(resources["limits"]) == {"memory"}, f"{where}: a limit of cpu stops it in the middle"


def test_images_are_those_of_this_version():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    version = setup["metadata"]["version"]
    for where, pod, item in every_container():
        name = "moorage-node" if pod.component in ("node", "uninstall") else "moorage"
        assert item["image"] == f"{name}:{version}", where


def test_the_budget_lets_one_allocator_go_at_a_time():
    for folder in CLUSTERS:
        deployment = named(folder, "Deployment", "moorage-allocator")
        budget = named(folder, "PodDisruptionBudget", "moorage-allocator")["spec"]
        assert budget["selector"] == deployment["spec"]["selector"]
        assert deployment["spec"]["replicas"] == (1 if folder == "overlays/single" else 2)
        assert budget["maxUnavailable"] == 1
        rolling = deployment["spec"]["strategy"]["rollingUpdate"]
        assert rolling == {"maxSurge": 0, "maxUnavailable": 1}, "a third would find no free port"


def test_selectors_select_their_own_pods_and_no_others():
    for folder in CLUSTERS:
        objects = rendered(folder)
        for pod in pods(objects):
            if pod.maker["kind"] == "Job":
                continue
            labels = pod.maker["spec"]["selector"]["matchLabels"].items()
            selected = [other.component for other in pods(objects) if labels <= other.labels.items()]
            assert selected == [pod.component]
            for spread in pod.spec.get("topologySpreadConstraints", []):
                assert spread["labelSelector"] == pod.maker["spec"]["selector"]
        service = named(folder, "Service", "moorage-console")["spec"]
        console = next(pod for pod in pods(objects) if pod.component == "console")
        assert service["selector"].items() <= console.labels.items()
        (port,) = service["ports"]
        assert port["targetPort"] in {each["name"] for each in console.spec["containers"][0]["ports"]}


def test_what_pods_depend_on_does_not_depend_on_the_pod_network():
    for folder, pod in every_pod():
        on_node = pod.component != "console"
        assert pod.spec.get("hostNetwork", False) is on_node, (folder, pod.component)
        assert pod.spec.get("dnsPolicy") == ("Default" if on_node else None), "the cluster's DNS is a pod"
        if pod.component in ("allocator", "migration", "provision"):
            tolerated = {each["key"] for each in pod.spec["tolerations"] if each["operator"] == "Exists"}
            assert {"node.kubernetes.io/not-ready", "node.kubernetes.io/network-unavailable"} <= tolerated
        if pod.component in ("node", "uninstall"):
            assert pod.spec["tolerations"] == [{"operator": "Exists"}]


@pytest.mark.parametrize("folder", CLUSTERS)
def test_the_node_worker_sees_namespaces_that_are_mounted_later(folder: str):
    worker = container(folder, "node", "node")
    mounts = {mount["mountPath"]: mount for mount in worker["volumeMounts"]}
    assert mounts["/run/netns"]["mountPropagation"] == "HostToContainer"
    others = [mount for mount in mounts.values() if mount["mountPath"] != "/run/netns"]
    assert all("mountPropagation" not in mount for mount in others)
    assert mounts["/etc/moorage"]["readOnly"] is True
    volumes = {volume["name"]: volume.get("hostPath", {}) for volume in node(folder).spec["volumes"]}
    paths = {path: volumes[mount["name"]].get("path") for path, mount in mounts.items()}
    inside = {on_host: path for path, on_host in paths.items() if on_host}
    assert inside == {
        "/etc/moorage": "/etc/moorage",
        "/proc/sys/net": "/host/proc/sys/net",
        "/run/moorage": "/run/moorage",
        "/run/netns": "/run/netns",
        "/var/lib/moorage": "/var/lib/moorage",
    }


def node(folder: str) -> PodTemplate:
    return next(pod for pod in pods(rendered(folder)) if pod.component == "node")


@pytest.mark.parametrize("folder", CLUSTERS)
def test_processes_of_the_host_are_seen_only_where_that_is_of_use(folder: str):
    sees = folder == "overlays/multus-ipam"
    assert node(folder).spec.get("hostPID", False) is sees
    assert ("SYS_PTRACE" in NODE_OVERLAYS[folder]) is sees
    for pod in pods(rendered(folder)):
        assert not pod.spec.get("hostIPC")
        assert pod.component == "node" or not pod.spec.get("hostPID")


def test_no_other_pod_sees_folders_of_the_host():
    for folder, pod in every_pod():
        if pod.component not in ("node", "uninstall"):
            assert all("hostPath" not in volume for volume in pod.spec.get("volumes", [])), folder


def test_a_worker_is_replaced_where_it_is_and_the_installer_keeps_what_it_put_there():
    for folder in CLUSTERS:
        daemons = named(folder, "DaemonSet", "moorage-node")
        assert daemons["spec"]["updateStrategy"]["type"] == "RollingUpdate"
        assert daemons["spec"]["template"]["spec"]["priorityClassName"] == "system-node-critical"
        assert "--keep" in container(folder, "node", "installer")["args"]
    alone = container("overlays/multus-ipam", "node", "installer")["args"]
    assert "--shim-only" in alone, "the cluster's own network plugin stays the first"


def test_every_variable_is_a_setting():
    for where, _, item in every_container():
        for name in environment(item):
            if name.startswith("MOORAGE_"):
                assert name.removeprefix("MOORAGE_").lower() in Settings.model_fields, name
            else:
                assert f"$({name})" in item["args"], where


def test_production_checks_certificates_everywhere():
    wanted = {
        "allocator": {"MOORAGE_AMQP_CA", "MOORAGE_DATABASE_CA"},
        "console": {"MOORAGE_AMQP_CA"},
        "migration": {"MOORAGE_DATABASE_CA"},
        "node": {"MOORAGE_AMQP_CA"},
    }
    for component, names in wanted.items():
        item = container("overlays/production", component, component)
        found = {key: value for key, value in environment(item).items() if key.endswith("_CA")}
        assert found == dict.fromkeys(names, "/etc/moorage-ca/ca.crt"), component
        assert any(mount["mountPath"] == "/etc/moorage-ca" for mount in item["volumeMounts"])


def test_provisioning_checks_certificates_where_there_is_an_authority():
    (pod,) = pods(rendered("overlays/provision"))
    (item,) = pod.containers()
    assert environment(item)["MOORAGE_AMQP_CA"] == "/etc/moorage-ca/ca.crt"
    (volume,) = (volume for volume in pod.spec["volumes"] if "configMap" in volume)
    assert volume["configMap"] == {"name": "moorage-ca", "optional": True}, "http:// needs none"


def test_policies_close_the_namespace_and_open_what_the_console_uses():
    closed = named("base", "NetworkPolicy", "default-deny")["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    opened = named("base", "NetworkPolicy", "console")["spec"]
    console = next(pod for pod in pods(rendered("base")) if pod.component == "console")
    assert opened["podSelector"]["matchLabels"].items() <= console.labels.items()

    def ports(direction: str) -> list[set[int]]:
        return [{port["port"] for port in rule["ports"]} for rule in opened[direction]]

    assert ports("ingress") == [{8480}, {9464}]
    assert ports("egress") == [{53}, {5671, 5672}]
    assert {port["containerPort"] for port in console.spec["containers"][0]["ports"]} == {8480, 9464}


@pytest.mark.parametrize("folder", ALL)
def test_everything_is_in_its_namespace(folder: str):
    for item in rendered(folder):
        if item["kind"] not in ("Namespace", "ClusterRole", "ClusterRoleBinding"):
            expected = "shop" if folder.endswith("app-namespace") else "moorage"
            assert item["metadata"]["namespace"] == expected
