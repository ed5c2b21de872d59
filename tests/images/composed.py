"""The services of compose/docker-compose.yml as podman runs them, in folders and at ports of a test's own."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT
from tests.images.engine import Container, Engine

FILE = ROOT / "compose" / "docker-compose.yml"
_SHARED = ("/run/netns", "/proc/sys/net")
"""Folders of the machine that are the machine's in a test, too."""


@dataclass(frozen=True)
class Composed:
    """What `docker compose` would run. Named volumes begin with `prefix`; `folder` stands for the machine.

    `secrets` are the files of the secrets by name; `images` those of the targets.
    """

    engine: Engine
    prefix: str
    folder: Path
    amqp: str
    images: Mapping[str, str]
    secrets: Mapping[str, Path]
    variables: Mapping[str, str] = field(default_factory=dict)

    def once(self, name: str, *command: str) -> str:
        """Run a service to its end, with another command if there is one; what it prints."""
        image, options, words, env = self._words(name, {}, {})
        return self.engine.run(image, *(command or words), options=options, env=env)

    def attempt(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """The same for a command that may fail."""
        image, options, _, env = self._words(name, {}, {})
        return self.engine.attempt(image, *command, options=options, env=env)

    @contextmanager
    def running(
        self, name: str, env: Mapping[str, str], secrets: Mapping[str, Path] | None = None
    ) -> Iterator[Container]:
        """A service that runs while the block does, with some variables and secrets of its own."""
        image, options, words, whole = self._words(name, env, secrets or {})
        with self.engine.running(name, image, *words, options=options, env=whole) as container:
            yield container

    def file(self, volume: str, name: str) -> str:
        """What a file in a named volume holds."""
        return (self._mountpoint(volume) / name).read_text()

    def modes(self, volume: str) -> dict[str, tuple[int, int]]:
        """The owner and the mode of each file in a named volume."""
        found = {path.name: path.stat() for path in self._mountpoint(volume).iterdir()}
        return {name: (stat.st_uid, stat.st_mode & 0o777) for name, stat in found.items()}

    def remove(self) -> None:
        """Remove the named volumes."""
        for volume in yaml.safe_load(FILE.read_text())["volumes"]:
            self.engine.call("volume", "rm", "--force", f"{self.prefix}-{volume}")

    def _mountpoint(self, volume: str) -> Path:
        shown = self.engine.podman(
            "volume", "inspect", "--format", "{{.Mountpoint}}", f"{self.prefix}-{volume}"
        )
        return Path(shown.strip())

    def _words(
        self, name: str, env: Mapping[str, str], secrets: Mapping[str, Path]
    ) -> tuple[str, list[str], list[str], dict[str, str]]:
        service = yaml.safe_load(FILE.read_text())["services"][name]
        options = [word for each in service.get("cap_add", []) for word in ("--cap-add", each.lower())]
        options += [word for each in service.get("tmpfs", []) for word in ("--tmpfs", each)]
        options += [word for each in service.get("volumes", []) for word in ("--volume", self._volume(each))]
        for secret in service.get("secrets", []):
            source = {**self.secrets, **secrets}[secret]
            options += ["--volume", f"{source}:/run/secrets/{secret}:ro"]
        command = [self._meant(word) for word in service.get("command", [])]
        if "entrypoint" in service:
            program, *first = service["entrypoint"]
            options += ["--entrypoint", program]
            command = [*first, *command]
        own = {key: self._meant(value) for key, value in service.get("environment", {}).items()}
        return self.images[service["build"]["target"]], options, command, {**own, **env}

    def _volume(self, mount: str | Mapping[str, Any]) -> str:
        if isinstance(mount, str):
            return f"{self.prefix}-{mount}"
        source, target = mount["source"], mount["target"]
        if source not in _SHARED:
            source = self.folder / source.strip("/").replace("/", "-")
            source.mkdir(exist_ok=True)
        flags = ["ro"] if mount.get("read_only") else []
        flags += [mount["bind"]["propagation"]] if "bind" in mount else []
        return ":".join([str(source), target, *([",".join(flags)] if flags else [])])

    def _meant(self, text: str) -> str:
        """A text with its variables, and with RabbitMQ where it is here."""
        text = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: self.variables.get(found[1], found[2]), text)
        return re.sub(r"--amqp \S+", f"--amqp {self.amqp}", text).replace("$$", "$")


def secret_files(folder: Path, texts: Mapping[str, str]) -> dict[str, Path]:
    """Files as compose/secrets.sh makes them: for all to read, in a folder that only its owner enters."""
    folder.mkdir(mode=0o700)
    for name, text in texts.items():
        (folder / name).write_text(f"{text}\n")
        (folder / name).chmod(0o644)
    return {name: folder / name for name in texts}
