"""Every verb in every version of CNI, through every real part: what is printed, and what the kernel has."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from node_worker.netlink import simulated
from tests.acceptance.machines import Machine, Pod, until
from tests.acceptance.runtime_calls import (
    NO_CONTAINER,
    VERSIONS,
    addresses_of,
    attached,
    host_links,
    interfaces_in,
    routed_network,
    seen,
)

pytestmark = [
    pytest.mark.services,
    pytest.mark.netns,
    pytest.mark.acceptance,
    pytest.mark.xdist_group("cni-spec"),
]
BROUGHT_BY = {"ADD": "0.3.1", "DEL": "0.3.1", "CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
WITH_IP_VERSION = {"0.3.1", "0.4.0"}


@pytest.fixture(scope="module")
def machine(one_node: Machine) -> Machine:
    routed_network(one_node, "dual", "10.92.0.1/24", "fd00:92::1/64")
    return one_node


@pytest.fixture
def pod(machine: Machine) -> Iterator[Pod]:
    made = Pod(machine, f"bank/api-{uuid.uuid4().hex[:6]}", "node-1", "dual")
    yield made
    made.delete()


def has(verb: str, version: str) -> bool:
    return VERSIONS.index(version) >= VERSIONS.index(BROUGHT_BY[verb])


def add(pod: Pod, version: str, **conf: Any) -> dict[str, Any]:
    status, result = pod.call("ADD", {"cniVersion": version} | conf)
    assert status == 0, result
    return result


@pytest.mark.parametrize("version", VERSIONS)
def test_an_add_prints_the_result_of_its_version_and_no_key_of_another(pod: Pod, version: str):
    result = add(pod, version)
    assert set(result) == {"cniVersion", "interfaces", "ips", "routes", "dns"}
    assert result["cniVersion"] == version
    mtu = {"mtu"} if version == "1.1.0" else set()
    outer, inner = result["interfaces"]
    assert set(outer) == {"name", "mac"} | mtu, "the host's end has no sandbox"
    assert set(inner) == {"name", "mac", "sandbox"} | mtu
    assert inner["sandbox"] == str(simulated.netns_path(pod.netns)), "it is what CNI_NETNS says"
    with_version = {"version"} if version in WITH_IP_VERSION else set()
    assert [set(ip) for ip in result["ips"]] == [{"address", "gateway", "interface"} | with_version] * 2
    assert [ip.get("version") for ip in result["ips"]] == (["4", "6"] if with_version else [None, None])
    assert [ip["interface"] for ip in result["ips"]] == [1, 1]
    assert result["routes"] == [
        {"dst": "0.0.0.0/0", "gw": "10.92.0.1"},
        {"dst": "::/0", "gw": "fd00:92::1"},
    ]


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_what_an_add_prints_is_what_the_kernel_has(pod: Pod, version: str):
    result = add(pod, version)
    outer, inner = result["interfaces"]
    (link,) = seen(pod, "address", "show", "eth0")
    assert (inner["name"], inner["mac"]) == (link["ifname"], link["address"])
    assert inner.get("mtu", 1500) == link["mtu"]
    assert outer["name"] in host_links(pod)
    there = {f"{entry['local']}/{entry['prefixlen']}" for entry in link["addr_info"]}
    assert {ip["address"] for ip in result["ips"]} <= there
    for route in result["routes"]:
        family = "-6" if ":" in route["dst"] else "-4"
        (default,) = seen(pod, family, "route", "show", "default")
        assert (default["gateway"], default["dev"]) == (route["gw"], "eth0")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_check_straight_after_the_add_and_a_del_print_nothing(pod: Pod, version: str):
    result = add(pod, version)
    with_previous = {"cniVersion": version, "prevResult": result}
    if has("CHECK", version):
        assert pod.call("CHECK", with_previous) == (0, {})
    assert pod.call("DEL", with_previous) == (0, {})
    assert interfaces_in(pod) == set()
    assert result["interfaces"][0]["name"] not in host_links(pod)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_has_the_verbs_that_it_or_an_older_one_brought(machine: Machine, pod: Pod, version: str):
    previous = {"prevResult": add(pod, version)}
    for verb, more in (("STATUS", NO_CONTAINER), ("GC", NO_CONTAINER), ("CHECK", {}), ("DEL", {})):
        status, answer = pod.call(verb, {"cniVersion": version} | previous, **more)
        if has(verb, version):
            assert (status, answer) == (0, {}), verb
        else:
            assert (status, answer["code"], answer["cniVersion"]) == (1, 1, version), verb
            assert f"has no {verb}: it came with {BROUGHT_BY[verb]}" in answer["msg"]


def test_a_gc_may_list_as_many_attachments_as_a_frame_holds(pod: Pod):
    result = add(pod, "1.1.0")
    valid = [{"containerID": f"{number:064x}", "ifname": "eth0"} for number in range(9_000)]
    listed = {"cniVersion": "1.1.0", "cni.dev/valid-attachments": valid, "cni.dev/attachments": []}
    assert pod.call("GC", listed, **NO_CONTAINER) == (0, {})
    assert pod.call("CHECK", {"cniVersion": "1.1.0", "prevResult": result}) == (0, {})
    status, answer = pod.call("GC", listed | {"cni.dev/attachments": valid}, **NO_CONTAINER)
    assert (status, answer["code"]) == (1, 7)
    assert "at most 1 MiB" in answer["msg"]


@pytest.mark.parametrize("version", VERSIONS)
def test_version_says_all_versions_in_the_one_it_is_asked_in(pod: Pod, version: str):
    status, answer = pod.call("VERSION", {"cniVersion": version}, CNI_PATH="dummy", CNI_NETNS="dummy")
    assert (status, answer) == (0, {"cniVersion": version, "supportedVersions": list(VERSIONS)})


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.3.0", "1.2.0", "2.0.0", "1.1", None, ""])
def test_any_other_version_is_code_1_and_told_which_there_are(pod: Pod, version: str | None):
    status, answer = pod.call("ADD", {"cniVersion": version})
    assert (status, answer["code"]) == (1, 1)
    assert "1.1.0" in answer["msg"]
    assert interfaces_in(pod) == set()


@pytest.mark.parametrize("version", VERSIONS)
def test_an_error_has_the_four_keys_and_the_asked_version(pod: Pod, version: str):
    status, answer = pod.call("ADD", {"cniVersion": version, "network": "nowhere"})
    assert (status, set(answer)) == (1, {"cniVersion", "code", "msg", "details"})
    assert (answer["cniVersion"], answer["code"]) == (version, 101)
    assert interfaces_in(pod) == set()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_del_may_come_again_and_before_any_add(machine: Machine, pod: Pod, version: str):
    conf = {"cniVersion": version}
    assert pod.call("DEL", conf) == (0, {})
    addresses = set(addresses_of(add(pod, version)))
    for _ in range(2):
        assert pod.call("DEL", conf) == (0, {})
    assert interfaces_in(pod) == set()
    until(lambda: not addresses & {str(view.address) for view in attached(machine, "dual")})


@pytest.mark.parametrize("netns", ["", "/run/netns/gone-long-ago"])
def test_a_del_without_namespace_and_prev_result_cleans_up_all_the_same(
    machine: Machine, pod: Pod, netns: str
):
    result = add(pod, "1.0.0")
    simulated.remove_netns(pod.netns)
    assert pod.call("DEL", CNI_NETNS=netns) == (0, {})
    assert result["interfaces"][0]["name"] not in host_links(pod)
    until(lambda: pod.container_id not in {view.container_id for view in attached(machine, "dual")})


def test_a_del_whose_variables_name_no_namespace_removes_the_interface_of_one_that_lives(pod: Pod):
    add(pod, "1.0.0")
    assert pod.call("DEL", CNI_NETNS="", CNI_PATH="", CNI_ARGS="") == (0, {})
    assert interfaces_in(pod) == set()


def test_an_interface_that_somebody_else_made_is_left_alone_and_costs_no_address(machine: Machine, pod: Pod):
    assert pod.run("ip", "link", "add", "eth0", "type", "bridge").returncode == 0
    (before,) = seen(pod, "link", "show", "eth0")
    status, answer = pod.call("ADD")
    assert (status, answer["code"], answer["details"]) == (1, 110, "interface_exists")
    assert seen(pod, "link", "show", "eth0") == [before]
    assert pod.container_id not in {view.container_id for view in attached(machine, "dual")}
    assert pod.call("DEL") == (0, {})
    assert interfaces_in(pod) == {"eth0"}, "a DEL ends what our ADD made"


@pytest.mark.parametrize("version", VERSIONS)
def test_keys_nobody_knows_and_capabilities_that_were_left_in_are_passed_over(pod: Pod, version: str):
    odd = {
        "cniVersion": version,
        "cniVersions": list(VERSIONS),
        "capabilities": {"ips": True, "portMappings": True, "unheard": {"of": 1}},
        "runtimeConfig": {"portMappings": [{"hostPort": 80}], "unheard": None},
        "args": {"labels": {"a": "b"}, "cni": {"labels": []}},
        "ipMasq": True,
        "dns": {"nameservers": ["192.0.2.53"]},
        "disableCheck": True,
        "keyA": ["some", {"plugin": "specific"}],
        "cni.dev/unheard-of": [1, 2.5, None],
    }
    arguments = "IgnoreUnknown=1;FOO=BAR;ABC=123;K8S_POD_NAMESPACE=bank;K8S_POD_NAME=odd-0;K8S_POD_UID=u"
    status, result = pod.call("ADD", odd, CNI_ARGS=arguments)
    assert status == 0, result
    assert set(result) == {"cniVersion", "interfaces", "ips", "routes", "dns"}
    if has("CHECK", version):
        assert pod.call("CHECK", odd | {"prevResult": result}, CNI_ARGS=arguments) == (0, {})
    assert pod.call("DEL", odd, CNI_ARGS=arguments) == (0, {})


def earlier(version: str) -> dict[str, Any]:
    """What a plugin before ours in the chain returned."""
    ip: dict[str, Any] = {"address": "192.0.2.7/24", "interface": 1, "gateway": "192.0.2.1"}
    if version in WITH_IP_VERSION:
        ip["version"] = "4"
    return {
        "cniVersion": version,
        "interfaces": [
            {"name": "other0", "mac": "02:00:00:00:00:01"},
            {"name": "lo9", "sandbox": "/run/netns/other", "unheard": "of"},
        ],
        "ips": [ip],
        "routes": [{"dst": "198.51.100.0/24", "gw": "192.0.2.1"}],
        "dns": {"nameservers": ["192.0.2.53"], "search": ["shop.example"]},
        "unheard": {"of": [1]},
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_the_result_of_a_plugin_before_ours_is_passed_on_with_ours_behind_it(pod: Pod, version: str):
    previous = earlier(version)
    result = add(pod, version, prevResult=previous)
    assert {key: result[key] for key in ("cniVersion", "dns", "unheard")} == {
        key: previous[key] for key in ("cniVersion", "dns", "unheard")
    }
    for key in ("interfaces", "ips", "routes"):
        assert result[key][: len(previous[key])] == previous[key]
        assert len(result[key]) == len(previous[key]) + 2
    ours = result["ips"][1:]
    assert [result["interfaces"][ip["interface"]]["name"] for ip in ours] == ["eth0", "eth0"]
    if has("CHECK", version):
        assert pod.call("CHECK", {"cniVersion": version, "prevResult": result}) == (0, {})
    assert pod.call("DEL", {"cniVersion": version, "prevResult": result}) == (0, {})


def test_a_prev_result_that_cannot_be_amended_is_refused_before_anything_is_made(pod: Pod):
    status, answer = pod.call("ADD", {"prevResult": {"ips": "none"}})
    assert (status, answer["code"]) == (1, 7)
    assert interfaces_in(pod) == set()
    assert pod.call("ADD", {"prevResult": {"interfaces": None, "ips": [], "dns": None}})[0] == 0
