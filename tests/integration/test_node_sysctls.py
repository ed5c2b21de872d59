"""The kernel's settings where /proc/sys is read-only, as in every container that is not privileged."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.netns

CONTAINER = """
set -eu
mount --bind /proc/sys/net "$1/net"
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
exec "$2" -c "$3" "$1"
"""
WORKER = """
import subprocess, sys
from pathlib import Path
from node_worker.netlink import session, simulated, sysctls
from node_worker.netlink.namespace import Netns

KEY = "net/ipv4/conf/default/rp_filter"

def value():
    return Path("/proc/sys", KEY).read_text().strip()

mounted = Path(sys.argv[1])
sysctls._MOUNTED = mounted if sys.argv[1:] and (mounted / "net/ipv4").is_dir() else sysctls._MOUNTED
before = value()
with Netns("/proc/self/ns/net") as own:
    simulated._call("unshare", simulated._CLONE_NEWNET)
    session.write_sysctl(KEY, 2)
    inside = value()
    with own.entered():
        print(inside, value() == before)
"""


def run(folder: Path, script: str = CONTAINER) -> subprocess.CompletedProcess[str]:
    (folder / "net").mkdir()
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(folder), sys.executable, WORKER]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def test_settings_are_written_in_the_right_namespace_through_the_hosts_folder(tmp_path: Path):
    done = run(tmp_path)
    assert done.stdout == "2 True\n", done.stderr


def test_without_that_folder_the_error_says_what_to_mount(tmp_path: Path):
    done = run(tmp_path, CONTAINER.replace('mount --bind /proc/sys/net "$1/net"', ""))
    assert done.returncode == 1
    assert "mount the host's /proc/sys/net at /host/proc/sys/net" in done.stderr
