"""The file system of the virtual machine, packed for the kernel to unpack into memory.

It holds what this machine has at the same paths: Python, programs and the libraries they are linked with;
Python's packages that tests need; the repository as it is now; and the kernel's modules.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.vm.kernel import Kernel, Unavailable

MODULES = (
    *("bridge", "veth", "vxlan", "macvlan", "ipvlan", "8021q", "dummy"),
    *("nf_tables", "nft_chain_nat", "nft_masq", "nf_nat", "nft_ct", "nft_reject_inet"),
)
PROGRAMS = ("ip", "bridge", "ping", "nsenter", "nft", "sysctl", "modprobe")
PACKAGES = ("moorage", "pytest", "pytest-asyncio", "pytest-timeout", "hypothesis")
SOURCES = ("*.py", "setup.cfg", "pyproject.toml", "cni/*.c")
UNNEEDED = ("config-*", "dist-packages", "ensurepip", "idlelib", "lib2to3", "test", "tkinter", "turtledemo")
REPOSITORY, LIBRARIES = Path("moorage"), Path("libraries")

_ROOT = Path(__file__).parents[2]
_LINKED = re.compile(r"(?:=> )?(/\S+) \(0x")


def pack(build: Path, kernel: Kernel, pytest_arguments: Sequence[str]) -> Path:
    """Make the archive, with an init that runs pytest with these arguments. Raises `Unavailable`."""
    root = build / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    _folders(root)
    _kernel_modules(root, kernel)
    _programs(root)
    _python(root)
    _repository(root)
    _init(root, pytest_arguments)
    archive = build / "initramfs"
    with archive.open("wb") as out:
        names = subprocess.run(["find", ".", "-print0"], cwd=root, check=True, capture_output=True).stdout
        command = ["cpio", "--null", "--create", "--format=newc", "--owner=0:0", "--quiet"]
        subprocess.run(command, cwd=root, input=names, stdout=out, check=True)
    return archive


def _folders(root: Path) -> None:
    for name in ("proc", "sys", "dev", "run", "tmp", "root", "etc", "usr/bin", "usr/sbin", "usr/lib"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        here = Path("/", name)
        if here.is_symlink():
            (root / here.readlink()).mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(here.readlink())
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")


def _kernel_modules(root: Path, kernel: Kernel) -> None:
    for file in kernel.modules(MODULES):
        _copy(kernel.folder / file, root / file)
    modules = Path("lib/modules", kernel.release)
    for name in ("modules.builtin", "modules.order", "modules.builtin.modinfo"):
        _copy(kernel.folder / modules / name, root / modules / name)
    subprocess.run(["depmod", "-b", root, kernel.release], check=True)


def _programs(root: Path) -> None:
    places = {name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") for name in PROGRAMS}
    places["busybox"] = shutil.which("busybox")
    missing = [name for name, place in places.items() if place is None]
    if missing:
        raise Unavailable(f"the programs {', '.join(missing)} are missing: sh compose/packages.sh LOG vm")
    found = [Path(place) for place in places.values() if place is not None]
    for place in found:
        _copy(place, root / "usr/bin" / place.name)
    _linked(root, found)


def _python(root: Path) -> None:
    interpreter = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    _copy(interpreter, root / "usr/bin/python3")
    version = f"python{sysconfig.get_python_version()}"
    (root / "usr/bin" / version).symlink_to("python3")
    home = root / "usr/lib" / version
    shutil.copytree(library, home, ignore=shutil.ignore_patterns(*UNNEEDED, "site-packages"))
    site = root / LIBRARIES
    for name in _required(PACKAGES):
        found = distribution(name)
        for file in found.files or ():
            if ".." not in file.parts and file.suffix != ".pth":
                _copy(Path(str(file.locate())), site / file)
    _linked(root, [interpreter, *home.rglob("*.so"), *site.rglob("*.so")])


def _required(names: Iterable[str]) -> set[str]:
    """These distributions and all that they require, as far as they are installed."""
    found, todo = set[str](), list(names)
    while todo:
        name = todo.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:  # it is for another system
            continue
        found.add(name)
        wanted = [Requirement(text) for text in requires]
        todo += [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def _repository(root: Path) -> None:
    """The files that git knows or would take, as they are now."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard", "--", *SOURCES],
        cwd=_ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (_ROOT / name).is_file():
            _copy(_ROOT / name, root / REPOSITORY / name)
    # What is emulated compiles slowly.
    compiled = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    subprocess.run([*compiled, REPOSITORY], cwd=root, check=True)


def _init(root: Path, pytest_arguments: Sequence[str]) -> None:
    settings = {
        "MODULES": " ".join(MODULES),
        "PYTHONPATH": f"/{REPOSITORY}:/{LIBRARIES}",
        "REPOSITORY": f"/{REPOSITORY}",
    }
    told = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items())
    (root / "settings").write_text(f"{told}set -- {shlex.join(pytest_arguments)}\n")
    _copy(Path(__file__).with_name("init.sh"), root / "init")
    (root / "init").chmod(0o755)


def _linked(root: Path, programs: Iterable[Path]) -> None:
    """Copy the shared libraries that these are linked with."""
    told = subprocess.run(["ldd", *programs], check=False, capture_output=True, text=True).stdout
    for name in sorted(set(_LINKED.findall(told))):
        folder = Path(name).parent.resolve()
        if not Path(name).is_relative_to(root):
            _copy(Path(name), root / folder.relative_to("/") / Path(name).name)


def _copy(source: Path, target: Path) -> None:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
