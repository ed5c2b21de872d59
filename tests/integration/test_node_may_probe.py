"""Whether a worker may ask a segment is seen in time, by a process with and one without CAP_NET_RAW."""

import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.netns

WITHOUT = ("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")
CHECKED = """
import sys
from node_worker.host import Host
from schemas.errors import ServiceError
from schemas.network import NetworkDefinition

driver, probe = sys.argv[1:]
definition = {"driver": {"type": driver}, "subnets": [{"cidr": "10.20.0.0/24"}], "probe": probe == "probe"}
if driver == "macvlan":
    definition["driver"]["parent"] = "eth1"
with Host(None) as host:
    try:
        host.check_probing(NetworkDefinition.model_validate(definition))
    except ServiceError as error:
        print(error)
"""


def checked(*words: str, before: tuple[str, ...] = ()) -> str:
    """What a worker's process says of a network of that driver, with or without probing."""
    program = [*before, sys.executable, "-c", CHECKED, *words]
    return subprocess.run(program, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_without_the_capability_a_network_that_wants_probing_is_refused_with_what_to_do() -> None:
    assert shutil.which("setpriv"), "util-linux has it"
    for driver in ("bridge", "macvlan"):
        said = checked(driver, "probe", before=WITHOUT)
        assert said.startswith("kernel_refused: the kernel refused to ask a segment"), said
        assert "CAP_NET_RAW, or create the network with --no-probe" in said


@pytest.mark.parametrize("words", [("bridge", "no"), ("macvlan", "no"), ("ipam", "probe")])
def test_without_the_capability_nothing_else_is_refused(words: tuple[str, str]) -> None:
    assert checked(*words, before=WITHOUT) == ""


def test_with_the_capability_nothing_is_refused() -> None:
    assert checked("macvlan", "probe") == ""
