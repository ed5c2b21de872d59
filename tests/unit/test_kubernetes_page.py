"""docs/kubernetes.md: what it has one type is what the manifests ask for."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import IN_CI, ROOT
from tests.kubernetes_manifests import CLUSTERS, pods, rendered, why_not_rendered

pytestmark = pytest.mark.skipif(not IN_CI and why_not_rendered() is not None, reason=str(why_not_rendered()))

PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
_MADE = re.compile(r"create (?:secret (generic|tls)|(configmap)) (\S+) (--.*)")


def made() -> dict[str, set[str]]:
    """The Secrets and ConfigMaps that the page has one make, and their keys."""
    return {
        name: {"tls.crt", "tls.key"} if kind == "tls" else set(re.findall(r"--from-file=([^=\s]+)", options))
        for kind, _, name, options in _MADE.findall(PAGE)
    }


def mounted(folder: str) -> dict[str, set[str]]:
    """Those that pods mount, and the keys that a variable names as files."""
    found: dict[str, set[str]] = {}
    for pod in pods(rendered(folder)):
        names: dict[str, str] = {
            volume["name"]: volume["secret"]["secretName"]
            if "secret" in volume
            else volume["configMap"]["name"]
            for volume in pod.spec.get("volumes", [])
            if "secret" in volume or "configMap" in volume
        }
        for item in pod.containers():
            values = [str(each.get("value")) for each in item.get("env", [])]
            for mount in item.get("volumeMounts", []):
                place = f"{mount['mountPath']}/"
                keys = {value.removeprefix(place) for value in values if value.startswith(place)}
                if mount["name"] in names:
                    found.setdefault(names[mount["name"]], set()).update(keys)
    return found


@pytest.mark.parametrize("folder", CLUSTERS)
def test_each_file_that_a_pod_reads_is_made_on_the_page(folder: str):
    files = mounted(folder)
    assert "moorage-allocator" in files
    for name, keys in files.items():
        assert keys, name
        assert keys <= made()[name], name


def test_all_that_the_page_makes_is_mounted_in_production():
    assert made() == mounted("overlays/production")


def test_the_patch_that_removes_the_executable_too_fits_what_is_installed(tmp_path: Path):
    (shown,) = re.findall(r"patch daemonset moorage-uninstall --type=json \\\n +-p '(.*)'", PAGE)
    (daemons,) = (item for item in rendered("overlays/uninstall") if item["kind"] == "DaemonSet")
    (tmp_path / "daemons.yaml").write_text(yaml.safe_dump(daemons))
    done = subprocess.run(
        [
            *("kubectl", "patch", "--local", "-f", str(tmp_path / "daemons.yaml")),
            *("--type=json", "-p", shown, "-o", "json"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    patched: Any = json.loads(done.stdout)
    assert patched["spec"]["template"]["spec"]["initContainers"][0]["args"] == [
        "cni",
        "uninstall",
        "--shim-too",
    ]
