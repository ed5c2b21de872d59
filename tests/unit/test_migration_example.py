"""docs/examples/old_addresses.py: what other plugins know of addresses becomes commands."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from tests.docs.marks import ROOT

FILE = ROOT / "docs" / "examples" / "old_addresses.py"


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("old_addresses", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_whereabouts_names_the_pod_and_the_distance_from_the_ranges_address(example: Any):
    four = {"10": {"id": "c1", "podref": "shop/web-0", "ifname": "net1"}}
    six = {"10": {"id": "c1", "podref": "shop/web-0", "ifname": "net1"}, "9": {"id": "c", "podref": "a/b"}}
    pools = [
        {"spec": {"range": "fd00:20::/64", "allocations": six}},
        {"spec": {"range": "10.20.0.0/24", "allocations": four}},
    ]
    assert list(example.commands("whereabouts", "prod", {"items": pools})) == [
        "moorage address reserve prod shop/web-0 --address 10.20.0.10 --address fd00:20::a --ifname net1",
        "moorage address reserve prod a/b --address fd00:20::9 --ifname net1",
    ]


def test_calico_pods_with_the_annotation_keep_what_it_says(example: Any):
    fixed = {"namespace": "shop", "name": "web-0", "annotations": {example.FIXED: '["10.20.0.12"]'}}
    pods = [{"metadata": fixed}, {"metadata": {"namespace": "shop", "name": "api-1"}}]
    assert list(example.commands("calico", "prod", {"items": pods})) == [
        "moorage address reserve prod shop/web-0 --address 10.20.0.12"
    ]


def test_host_local_files_are_matched_with_the_runtimes_sandboxes(
    example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "10.20.0.7").write_bytes(b"sandbox-1\r\neth0")
    (tmp_path / "10.20.0.6").write_bytes(b"sandbox-2\r\nnet1")
    (tmp_path / "10.20.0.9").write_bytes(b"gone\r\neth0")
    (tmp_path / "last_reserved_ip.0").write_text("10.20.0.9")
    (tmp_path / "lock").touch()
    pods = [
        {"id": "sandbox-1", "metadata": {"namespace": "shop", "name": "web-0"}},
        {"id": "sandbox-2", "metadata": {"namespace": "shop", "name": "web-1"}},
    ]
    assert list(example.commands("host-local", "prod", {"items": pods}, tmp_path)) == [
        "moorage address reserve prod shop/web-1 --address 10.20.0.6 --ifname net1",
        "moorage address reserve prod shop/web-0 --address 10.20.0.7",
    ]
    assert "10.20.0.9: no pod of this node has sandbox gone" in capsys.readouterr().err


def test_a_name_from_elsewhere_is_quoted_for_the_shell(example: Any):
    allocation = {"1": {"id": "c", "podref": "shop/web;reboot", "ifname": "eth0"}}
    pools = [{"spec": {"range": "10.20.0.0/24", "allocations": allocation}}]
    (command,) = example.commands("whereabouts", "prod", json.loads(json.dumps({"items": pools})))
    assert "'shop/web;reboot'" in command
