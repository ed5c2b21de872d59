"""Builds and runs images without a container engine's daemon: debootstrap, buildah and podman, in one folder.

The base is made by debootstrap, since no registry of images is asked. What pip needs to reach its index from
here goes into the build as secrets, and so into no layer.
"""

import ast
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.hosts import unmount_below
from tests.conftest import ROOT

PROGRAMS = ("debootstrap", "buildah", "podman", "conmon", "runc")
BASE = "localhost/moorage-base:test"
_BUILD_S = 1200
_CARRIED = ("index-url", "extra-index-url", "trusted-host", "timeout", "retries")
"""What of this machine's pip configuration may matter elsewhere. Paths of this machine do not."""
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# A machine that is itself a container may not raise its own limits, and has no cgroups to give.
_RUN = ("--network", "host", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096")


class Engine:
    """An image store of its own, and the containers that run from it."""

    def __init__(self, folder: Path, driver: str) -> None:
        self._folder = folder
        self._store = [
            *("--root", str(folder / "store"), "--runroot", str(folder / "run"), "--storage-driver", driver)
        ]
        self._podman = ["podman", *self._store, "--runtime", "runc", "--cgroup-manager", "cgroupfs"]
        self._podman += ["--tmpdir", str(folder / "tmp"), "--events-backend", "file"]

    def make_base(self) -> None:
        """What BASE is: this machine's distribution with Python, as debootstrap makes it."""
        root, codename = self._folder / "base", platform.freedesktop_os_release()["VERSION_CODENAME"]
        packages = "--include=python3-venv,ca-certificates"
        _done(["debootstrap", "--variant=minbase", packages, codename, str(root)])
        container = _done(["buildah", *self._store, "from", "scratch"]).strip()
        _done(["buildah", *self._store, "add", "--quiet", container, str(root), "/"])
        _done(["buildah", *self._store, "commit", "--quiet", "--rm", container, BASE])
        shutil.rmtree(root)

    def build(self, target: str, tag: str) -> None:
        """Build a target of compose/Dockerfile."""
        (self._folder / "pip.conf").write_text(_pip_configuration())
        given = {"pip": self._folder / "pip.conf", "ca": _CERTIFICATES}
        words = [word for name, path in given.items() for word in ("--secret", f"id={name},src={path}")]
        words += ["--build-arg", f"BASE={BASE}", "--build-arg", "REVISION=0123456789ab"]
        how = ["--isolation", "chroot", "--network", "host", "--layers", "--format", "docker"]
        dockerfile = ["--file", str(ROOT / "compose" / "Dockerfile"), "--target", target, "--tag", tag]
        _done(["buildah", *self._store, "build", *how, *words, *dockerfile, str(ROOT)])

    def attempt(
        self, image: str, *command: str, options: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a container to its end, as the compose file and the manifests have them run."""
        words = ["run", "--rm", *_RUN, *_LOCKED, *options, *_variables(env or {}), image, *command]
        return self._run(words)

    def run(
        self, image: str, *command: str, options: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> str:
        """The same for one that must succeed: what it prints."""
        done = self.attempt(image, *command, options=options, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(
        self, name: str, image: str, *command: str, options: Sequence[str] = (), env: Mapping[str, str]
    ) -> Iterator["Container"]:
        """A container that runs while the block does."""
        words = ["run", "--detach", "--name", name, "--log-driver", "k8s-file", *_RUN, *_LOCKED, *options]
        started = self._run([*words, *_variables(env), image, *command])
        assert started.returncode == 0, started.stderr
        container = Container(self, name)
        try:
            yield container
        finally:
            self._run(["rm", "--force", "--time", "10", name])

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A podman command."""
        return self._run(words)

    def podman(self, *words: str) -> str:
        """What a podman command prints that must succeed."""
        done = self.call(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def inspect(self, image: str) -> Any:
        """What is known of an image."""
        (found,) = json.loads(self.podman("image", "inspect", image))
        return found

    @contextmanager
    def files(self, image: str) -> Iterator[Path]:
        """The root folder of an image, to be looked at."""
        self.podman("create", "--name", "looked-at", image)
        try:
            yield Path(self.podman("mount", "looked-at").strip())
        finally:
            self.podman("rm", "--force", "looked-at")

    def close(self) -> None:
        """End what runs, and remove everything."""
        self._run(["rm", "--all", "--force", "--time", "0"])
        unmount_below(self._folder)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._podman, *words], capture_output=True, text=True, timeout=180, check=False
        )


_LOCKED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--no-healthcheck",
    "--cap-drop",
    "all",
    "--security-opt",
    "no-new-privileges",
)


class Container:
    """One that runs."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine, self.name = engine, name

    def healthy(self, path: str = "/healthz") -> bool:
        """Whether its HEALTHCHECK, asked for that path, ends well."""
        try:
            self._engine.podman("exec", self.name, "python3", "-m", "compose.health_probe", path)
        except AssertionError:
            return False
        return True

    def logs(self) -> str:
        """What it printed so far."""
        done = self._engine.call("logs", self.name)
        return done.stdout + done.stderr

    def told(self) -> str:
        """All that the engine and the list of processes tell of it, and what it printed."""
        processes = subprocess.run(["ps", "axewww"], capture_output=True, text=True, check=True).stdout
        return self._engine.podman("inspect", self.name) + processes + self.logs()

    def resident_mb(self) -> float:
        """The memory of its process."""
        pid = self._engine.podman("inspect", "--format", "{{.State.Pid}}", self.name).strip()
        (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in line)
        return int(line.split()[1]) * 1024 / 1e6


def why_not() -> str | None:
    """Why images cannot be built and run here, if they cannot."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    if missing:
        return f"the programs {', '.join(missing)} are missing: sh compose/packages.sh LOG images"
    return None


def _variables(values: Mapping[str, str]) -> list[str]:
    return [word for name, value in values.items() for word in ("--env", f"{name}={value}")]


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def engine_in(folder: Path) -> Engine:
    """One that keeps everything in `folder`, with layers that share files where the disk can do that."""
    folder.mkdir()
    probe = ["buildah", "--root", str(folder / "probe"), "--runroot", str(folder / "probe-run")]
    can = subprocess.run(
        [*probe, "--storage-driver", "overlay", "from", "scratch"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    return Engine(folder, "overlay" if can.returncode == 0 else "vfs")


def _done(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_S, check=False)
    assert done.returncode == 0, f"{' '.join(command[:2])}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def _pip_configuration() -> str:
    listed = _done([sys.executable, "-m", "pip", "config", "list"])
    lines = ["[global]", "cert = /run/secrets/ca"]
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in _CARRIED and "file:" not in value:
            lines.append(f"{name} = {ast.literal_eval(value)}")
    return "\n".join(lines) + "\n"
