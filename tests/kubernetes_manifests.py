"""The manifests as they reach a cluster: rendered, and their pods and containers to look at."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

MANIFESTS = Path(__file__).parent.parent / "compose" / "kubernetes"
CLUSTERS = (
    "base",
    *(f"overlays/{name}" for name in ("single", "production", "shared-segment", "multus-ipam", "apps")),
)
"""Those that are a whole installation each."""
PARTS = ("overlays/apps/app-namespace", "overlays/provision", "overlays/uninstall")
"""Those that are applied beside one."""
NODE_OVERLAYS = {
    "base": {"NET_ADMIN", "SYS_ADMIN"},
    "overlays/single": {"NET_ADMIN", "SYS_ADMIN"},
    "overlays/production": {"NET_ADMIN", "SYS_ADMIN"},
    "overlays/apps": {"NET_ADMIN", "SYS_ADMIN"},
    "overlays/shared-segment": {"NET_ADMIN", "NET_RAW", "SYS_ADMIN"},
    "overlays/multus-ipam": {"NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE"},
}
"""What the node worker may do, by overlay. Nothing else may do anything."""

Manifest = Mapping[str, Any]


def why_not_rendered() -> str | None:
    """Why manifests cannot be rendered here, if they cannot."""
    if shutil.which("kubectl") is None:
        return "the program kubectl is missing: sh compose/packages.sh LOG kubernetes"
    return None


@cache
def rendered(folder: str) -> tuple[Manifest, ...]:
    """The objects of one kustomization."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(MANIFESTS / folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return tuple(item for item in yaml.safe_load_all(done.stdout) if item is not None)


@dataclass(frozen=True)
class PodTemplate:
    """The pods that one object makes."""

    maker: Manifest
    labels: Mapping[str, str]
    spec: Manifest

    @property
    def component(self) -> str:
        """Which part of Moorage it is."""
        return str(self.labels["app.kubernetes.io/component"])

    def containers(self) -> Iterator[Manifest]:
        """All of them, those that run first too."""
        yield from self.spec.get("initContainers", [])
        yield from self.spec["containers"]

    def effective(self, container: Manifest, field: str) -> Any:
        """A field of the security context: the container's, else the pod's."""
        own: Mapping[str, Any] = container.get("securityContext", {})
        return own[field] if field in own else self.spec.get("securityContext", {}).get(field)


def pods(objects: tuple[Manifest, ...]) -> Iterator[PodTemplate]:
    """The pods that these objects make."""
    for item in objects:
        if item["kind"] in ("Deployment", "DaemonSet", "Job"):
            template = item["spec"]["template"]
            yield PodTemplate(item, template["metadata"]["labels"], template["spec"])
