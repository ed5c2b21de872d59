"""CHECK, GC and STATUS through every real part, as a runtime calls them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.machines import Machine, Pod, machine_of, until

pytestmark = [
    pytest.mark.services,
    pytest.mark.netns,
    pytest.mark.acceptance,
    pytest.mark.xdist_group("verbs"),
]
GC = {"CNI_CONTAINERID": "", "CNI_NETNS": "", "CNI_IFNAME": ""}
NEWEST = {"cniVersion": "1.1.0"}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, shim: Path) -> Iterator[Machine]:
    with machine_of(tmp_path_factory.mktemp("v"), shim, nodes=1) as running:
        yield running


def status_of(machine: Machine) -> tuple[int, dict[str, Any]]:
    return Pod(machine, "shop/web-0", "node-1").call("STATUS", NEWEST, **GC)


def listed(*pods: Pod) -> dict[str, Any]:
    valid = [{"containerID": pod.container_id, "ifname": "eth0"} for pod in pods]
    return NEWEST | {"cni.dev/valid-attachments": valid}


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_check_finds_what_somebody_took_away(machine: Machine, version: str):
    pod = Pod(machine, "shop/web-0", "node-1")
    status, result = pod.call("ADD", {"cniVersion": version})
    assert status == 0, result
    checked = {"cniVersion": version, "prevResult": result}
    assert pod.call("CHECK", checked) == (0, {})
    pod.run("ip", "address", "flush", "dev", "eth0")
    status, answer = pod.call("CHECK", checked)
    assert (status, answer["code"], answer["details"]) == (1, 117, "endpoint_broken")
    assert "eth0 has no address 10.77.0." in answer["msg"]
    pod.delete()
    status, answer = pod.call("CHECK", checked)
    assert (status, answer["details"]) == (1, "attachment_released")


@pytest.mark.parametrize(
    ("verb", "version"), [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "0.4.0"), ("STATUS", "1.0.0")]
)
def test_a_verb_that_the_version_does_not_have_is_code_1(machine: Machine, verb: str, version: str):
    status, answer = Pod(machine, "shop/web-0", "node-1").call(verb, {"cniVersion": version})
    assert (status, answer["code"], answer["cniVersion"]) == (1, 1, version)


def test_gc_ends_what_is_not_listed_once_it_is_no_longer_new(machine: Machine):
    kept, other = Pod(machine, "shop/web-1", "node-1"), Pod(machine, "shop/web-2", "node-1")
    kept.add()
    other.add()
    assert kept.call("GC", listed(kept), **GC) == (0, {})
    assert "eth0" in other.links(), "its list may have been made before its ADD ended"
    # What a worker finds when it starts is new to nobody.
    node = machine.node("node-1")
    node.process.kill()
    node.process.start()
    until(lambda: status_of(machine)[0] == 0, 60)
    for nothing_listed in (NEWEST, NEWEST | {"cni.dev/valid-attachments": None}, listed()):
        assert kept.call("GC", nothing_listed, **GC) == (0, {})
    assert "eth0" in other.links(), "its namespace lives"
    assert kept.call("GC", listed(kept), **GC) == (0, {})
    assert "eth0" not in other.links()
    assert "eth0" in kept.links()
    kept.delete()
    other.delete()


def test_status_tells_whether_add_would_be_served(machine: Machine):
    assert status_of(machine) == (0, {})
    pod = Pod(machine, "shop/web-0", "node-1", network="nowhere")
    status, answer = pod.call("STATUS", NEWEST, **GC)
    assert (status, answer["code"], answer["details"]) == (1, 50, "network_unknown")
    node = machine.node("node-1")
    node.process.kill()
    status, answer = status_of(machine)
    assert (status, answer["code"]) == (1, 50)
    node.process.start()
    until(lambda: status_of(machine)[0] == 0, 60)


def test_a_pods_annotations_choose_network_and_address_within_what_its_owner_may(machine: Machine):
    machine.network("other", "10.91.0.0/24")

    def annotated(**annotations: str) -> dict[str, Any]:
        named = {f"moorage.io/{key}": value for key, value in annotations.items()}
        return {"runtimeConfig": {"io.kubernetes.cri.pod-annotations": named | {"team": "shop"}}}

    chosen = Pod(machine, "shop/web-5", "node-1")
    status, result = chosen.call("ADD", annotated(ip="10.77.0.17,10.77.0.18"))
    assert (status, result["ips"][0]["address"]) == (0, "10.77.0.17/24"), result
    elsewhere = Pod(machine, "bank/api-0", "node-1")
    status, result = elsewhere.call("ADD", annotated(network="other"))
    assert status == 0, result
    assert result["ips"][0]["address"].startswith("10.91.0.")
    # A conf that the runtime does not annotate any more, as after its restart, still finds what ADD made.
    elsewhere.delete()
    until(
        lambda: machine.command("address", "list", "other", "--state", "attached").stdout.count("bank") == 0
    )

    stranger = Pod(machine, "bank/api-1", "node-1")
    for wish, code in (({"pool": "web"}, 103), ({"ip": "10.77.0.18"}, 103), ({"ip": "10.77.0.300"}, 7)):
        status, answer = stranger.call("ADD", annotated(**wish))
        assert (status, answer["code"]) == (1, code), answer
    assert stranger.call("DEL", annotated(ip="10.77.0.300")) == (0, {})
    chosen.delete()


def test_the_plugin_is_installed_once_the_worker_serves_its_network(machine: Machine, tmp_path: Path):
    places = ["--bin-dir", str(tmp_path / "bin"), "--conf-dir", str(tmp_path / "net.d")]
    places += ["--socket", str(machine.node("node-1").socket)]
    shim = ["--shim", str(machine.shim)]
    refused = machine.command("cni", "install", "--network", "nowhere", "--wait", "0", *shim, *places)
    assert (refused.returncode, "nowhere" in refused.stderr) == (1, True)
    assert not (tmp_path / "net.d").exists()
    installed = machine.command("cni", "install", "--network", "prod", *shim, *places)
    assert installed.returncode == 0, installed.stderr
    shown = machine.command("cni", "status", *places)
    assert shown.returncode == 0, shown.stdout
    (listed,) = (tmp_path / "net.d").iterdir()
    conf = json.loads(listed.read_text())
    pod = Pod(machine, "shop/web-0", "node-1")
    pod.shim = tmp_path / "bin" / "moorage"
    status, answer = pod.call("ADD", {**conf["plugins"][0], "name": conf["name"]})
    assert status == 0, answer
    pod.call("DEL", {**conf["plugins"][0], "name": conf["name"]})
