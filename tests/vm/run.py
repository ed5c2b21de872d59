"""Runs tests on a kernel that has all kinds of links: boots a virtual machine, shows what pytest says in it.

    python -m tests.vm.run [PYTEST ARGUMENT...]

Exits with pytest's status; with 3 where the virtual machine could not be made, or did not say how it ended.
"""

import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.vm import image, kernel

LIMIT_S = 1800
_BUILD = Path(__file__).parents[2] / "build" / "vm"
_NO_ANSWER = 3
_SAYS = "moorage-vm: "
_QEMU = (
    *("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"),
    *("-m", "768", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"),
)
# panic=-1 with -no-reboot: a kernel that panics ends the machine at once.
_BOOT = "console=ttyS0 quiet loglevel=4 panic=-1 random.trust_cpu=on mitigations=off"


def run(booted: kernel.Kernel, archive: Path, limit_s: float = LIMIT_S) -> int | None:
    """Boot, and show what stands between the marks; pytest's status, or None if none was heard."""
    command = [*_QEMU, "-kernel", str(booted.image), "-initrd", str(archive), "-append", _BOOT]
    unshown, showing, status = list[str](), False, None
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as machine:
        assert machine.stdout is not None
        limit = threading.Timer(limit_s, machine.kill)
        limit.start()
        try:
            for line in machine.stdout:
                text = line.rstrip()
                if text == f"{_SAYS}begin":
                    showing = True
                elif text.startswith(f"{_SAYS}end "):
                    status = int(text.split()[-1])
                    break
                elif showing or text.startswith(_SAYS):
                    print(text, flush=True)
                else:
                    unshown.append(text)
            machine.wait()
        finally:
            limit.cancel()
            machine.kill()
    if status is None:
        print(*unshown[-30:], sep="\n")
        why = "stopped amid the tests" if showing else "never answered"
        print(f"test-vm: the virtual machine {why}; it has {limit_s:.0f} s for all")
    return status


def main() -> int:
    """Fetch, pack, boot, and say how it ended."""
    began = time.monotonic()
    try:
        booted = kernel.fetch(_BUILD)
        archive = image.pack(_BUILD, booted, sys.argv[1:])
    except kernel.Unavailable as why:
        print(f"test-vm: {why}", file=sys.stderr)
        return _NO_ANSWER
    size, packed = archive.stat().st_size // 2**20, time.monotonic()
    print(f"test-vm: packed {size} MB in {packed - began:.0f} s; booting Debian's {booted.release} in qemu")
    status = run(booted, archive)
    told = "no answer" if status is None else "passed" if status == 0 else f"failed with status {status}"
    took = time.monotonic() - packed
    print(f"test-vm: {told}, in a virtual machine with kernel {booted.release}, in {took:.0f} s")
    return _NO_ANSWER if status is None else status


if __name__ == "__main__":
    sys.exit(main())
