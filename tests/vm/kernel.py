"""Debian's cloud kernel, taken out of its package: nothing of it is installed on this machine."""

import shutil
import subprocess
from pathlib import Path

PACKAGE = "linux-image-cloud-amd64"


class Unavailable(Exception):
    """The virtual machine cannot be made here; says why."""


class Kernel:
    """A kernel and its modules below `folder`, which is laid out as the root of a file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.image,) = (folder / "boot").glob("vmlinuz-*")
        self.release = self.image.name.removeprefix("vmlinuz-")

    def modules(self, names: tuple[str, ...]) -> list[Path]:
        """The files of these modules and of all that they need, relative to the root of the file system."""
        command = ["modprobe", "--show-depends", "-d", str(self.folder), "-S", self.release, "-a", *names]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        files = {line.split()[1] for line in told.splitlines() if line.startswith("insmod ")}
        return [Path(file).relative_to(self.folder) for file in sorted(files)]


def fetch(build: Path) -> Kernel:
    """The kernel in `build`, downloaded once with apt-get. Raises `Unavailable`."""
    ready = build / "kernel"
    if not ready.is_dir():
        fresh, downloads = build / "kernel.new", build / "downloads"
        for folder in (fresh, downloads):
            shutil.rmtree(folder, ignore_errors=True)
        downloads.mkdir(parents=True)
        if not _download(downloads):
            _tell("apt-get update", Path(), "apt-get", "-q", "update")
            if not _download(downloads):
                raise Unavailable(
                    f"apt-get offers no {PACKAGE}: this needs access to Debian's repositories for x86-64"
                )
        (package,) = downloads.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package, fresh], check=True)
        (modules,) = (fresh / "lib/modules").iterdir()
        subprocess.run(["depmod", "-b", fresh, modules.name], check=True)
        fresh.rename(ready)
        shutil.rmtree(downloads)
    return Kernel(ready)


def _download(downloads: Path) -> bool:
    asked = subprocess.run(
        ["apt-cache", "depends", "--important", PACKAGE], capture_output=True, text=True, check=False
    )
    named = [line.split()[-1] for line in asked.stdout.splitlines() if "Depends: linux-image-" in line]
    # The name that stands for the newest kernel holds nothing itself.
    return bool(named) and _tell(f"downloading {named[0]}", downloads, "apt-get", "-q", "download", named[0])


def _tell(what: str, folder: Path, *command: str) -> bool:
    print(f"test-vm: {what}", flush=True)
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0
