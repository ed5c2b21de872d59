"""Each `MOORAGE_...` that manifests, scripts and documents name is a setting that there is."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from compose.settings import Settings
from console.changes import ActorOption
from tests.conftest import ROOT

FILES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "docs/**/*.y*ml", "docs/**/*.toml", "compose/**/*")
    for path in ROOT.glob(pattern)
    if path.is_file() and path.suffix not in (".py", ".pyc") and "secrets" not in path.parts
)
COMPOSE = ROOT / "compose" / "docker-compose.yml"
SETTINGS = {f"MOORAGE_{name.upper()}" for name in Settings.model_fields}
FOR_COMPOSE = set(re.findall(r"\$\{(MOORAGE_\w+):-", COMPOSE.read_text())) - SETTINGS
"""Variables of `docker compose` itself, which no process of ours reads."""
FOR_COMMANDS = {ActorOption.__metadata__[0].envvar}
"""Options of commands that may come as variables."""


def names(path: Path) -> Iterator[str]:
    yield from re.findall(r"MOORAGE_[A-Z0-9_]*[A-Z0-9](?![*\w])", path.read_text(encoding="utf-8"))


def test_there_are_files_and_names():
    assert {"MOORAGE_AMQP_URL_FILE", "MOORAGE_CONSOLE_KEY"} <= set(
        names(ROOT / "compose/kubernetes/base/console.yaml")
    )
    assert {"Dockerfile", "docker-compose.yml", "secrets.sh", "kubernetes.md", "README.md"} <= {
        path.name for path in FILES
    }
    assert {"MOORAGE_SECRETS", "MOORAGE_NETWORK"} == FOR_COMPOSE
    assert {"MOORAGE_ACTOR"} == FOR_COMMANDS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_name_is_a_setting(path: Path):
    known = SETTINGS | FOR_COMMANDS
    if path in (COMPOSE, ROOT / "docs" / "containers.md"):
        known |= FOR_COMPOSE
    assert set(names(path)) - known == set()


def test_the_settings_of_tls_in_the_manifests_are_files_of_what_is_mounted():
    """A certificate's path that nothing is mounted at would stop each process at its start."""
    found = 0
    for path in (ROOT / "compose" / "kubernetes").rglob("*.yaml"):
        for item in yaml.safe_load_all(path.read_text()):
            for container in _containers(item):
                places = {mount["mountPath"] for mount in container.get("volumeMounts", [])}
                for variable in container.get("env", []):
                    if re.search("_(CA|CERTIFICATE|KEY|URL_FILE|TOKENS_FILE)$", variable["name"]):
                        assert str(Path(variable["value"]).parent) in places, f"{path}: {variable['name']}"
                        found += 1
    assert found > 10


def _containers(item: object) -> Iterator[dict[str, list[dict[str, str]]]]:
    if isinstance(item, dict):
        for key, value in item.items():
            if key in ("containers", "initContainers"):
                yield from value
            else:
                yield from _containers(value)
