"""What an ADD prints, version by version."""

import json
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from cni.errors import CniError
from cni.result import CniResult, Interface, Ip, Route, encode, render, render_error

RESULT = CniResult(
    interfaces=(
        Interface("br-prod", "0a:58:0a:14:00:01"),
        Interface("eth0", "0a:58:0a:14:00:05", sandbox="/run/netns/x", mtu=1450),
    ),
    ips=(
        Ip(ip_interface("10.20.0.5/24"), ip_address("10.20.0.1"), interface=1),
        Ip(ip_interface("fd00:20::5/64"), None, interface=1),
    ),
    routes=(
        Route(ip_network("0.0.0.0/0"), ip_address("10.20.0.1")),
        Route(ip_network("::/0"), None),
    ),
)


def expected(version: str) -> dict[str, Any]:
    eth0: dict[str, Any] = {"name": "eth0", "mac": "0a:58:0a:14:00:05", "sandbox": "/run/netns/x"}
    v4: dict[str, Any] = {"address": "10.20.0.5/24", "gateway": "10.20.0.1", "interface": 1}
    v6: dict[str, Any] = {"address": "fd00:20::5/64", "interface": 1}
    if version in {"0.3.1", "0.4.0"}:
        v4["version"], v6["version"] = "4", "6"
    if version == "1.1.0":
        eth0["mtu"] = 1450
    return {
        "cniVersion": version,
        "interfaces": [{"name": "br-prod", "mac": "0a:58:0a:14:00:01"}, eth0],
        "ips": [v4, v6],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.20.0.1"}, {"dst": "::/0"}],
        "dns": {},
    }


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_a_result_has_the_shape_of_the_asked_version(version: str) -> None:
    assert json.loads(encode(render(RESULT, version))) == expected(version)


def test_prev_results_entries_stay_and_ours_come_behind_them() -> None:
    previous: dict[str, Any] = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "a", "mac": "02:00:00:00:00:01", "extra": 1}, {"name": "b"}],
        "ips": [{"address": "192.0.2.7/24", "interface": 0}],
        "routes": [{"dst": "192.0.2.0/24"}],
        "dns": {"nameservers": ["192.0.2.53"]},
        "unheard": "of",
    }
    before = json.dumps(previous)
    document = render(RESULT, "1.0.0", previous)
    ours = expected("1.0.0")
    assert document["interfaces"] == previous["interfaces"] + ours["interfaces"]
    assert document["ips"][0] == previous["ips"][0]
    assert [ip["interface"] for ip in document["ips"][1:]] == [3, 3]
    assert document["interfaces"][3]["name"] == "eth0"
    assert document["routes"] == previous["routes"] + ours["routes"]
    assert (document["dns"], document["unheard"]) == (previous["dns"], "of")
    assert json.dumps(previous) == before


def test_a_prev_result_of_nulls_is_an_empty_one() -> None:
    empty = {"interfaces": None, "ips": None, "routes": None, "dns": None}
    assert render(RESULT, "1.1.0", empty) == expected("1.1.0")


def test_an_ipam_result_names_no_interfaces() -> None:
    allocation = CniResult((), (Ip(ip_interface("10.20.0.5/24"), ip_address("10.20.0.1"), None),), ())
    assert render(allocation, "1.0.0") == {
        "cniVersion": "1.0.0",
        "ips": [{"address": "10.20.0.5/24", "gateway": "10.20.0.1"}],
        "routes": [],
        "dns": {},
    }


def test_an_error_is_one_object_with_the_four_keys() -> None:
    assert render_error(CniError(104, "full", "exhausted"), "0.4.0") == {
        "cniVersion": "0.4.0",
        "code": 104,
        "msg": "full",
        "details": "exhausted",
    }


def test_what_is_printed_is_ascii_json_whatever_a_prev_result_holds() -> None:
    printed = encode(render(RESULT, "1.0.0", {"odd": "\ud800 \x00 é"}))
    assert printed.isascii()
    assert json.loads(printed)["odd"] == "\ud800 \x00 é"
    with pytest.raises(ValueError, match="JSON"):
        encode({"x": float("nan")})
