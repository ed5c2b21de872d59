"""Network namespaces that go, or seem to go, all at once."""

import subprocess
import time
from contextlib import ExitStack

import pytest

from node_worker.netlink import simulated
from node_worker.vanished import EVERY_S
from tests.acceptance.machines import Pod, until
from tests.chaos.stage import Stage, address_of

pytestmark = [pytest.mark.chaos, pytest.mark.services, pytest.mark.netns]

PODS = 12
SAYS = "over half of this node's pods are gone without a DEL"


def test_netns_mounts_that_vanish_by_mistake(stage: Stage):
    """Half of the namespaces live on in their processes, the others are gone: nothing is released."""
    pods = [stage.pod(f"bank/api-{number}") for number in range(PODS)]
    addresses = {pod.container_id: address_of(pod.add()) for pod in pods}
    with ExitStack() as undo:
        alive = {pod.container_id: undo.enter_context(holding(pod)) for pod in pods[: PODS // 3]}
        for pod in pods:
            simulated.remove_netns(pod.netns)
        until(lambda: SAYS in stage.log_of("node-1"), 2 * EVERY_S)
        time.sleep(EVERY_S + 5)  # it looks once more: that nothing happens has no condition to wait for
        assert len(stage.attached()) == PODS
        for pod in pods[: PODS // 3]:
            assert addresses[pod.container_id] in seen_by(alive[pod.container_id])
    for pod in pods:
        pod.delete()
    until(lambda: stage.attached() == [])


def holding(pod: Pod) -> subprocess.Popen[bytes]:
    """A process in the pod's namespace, once it is there."""
    path = simulated.netns_path(pod.netns)
    process = _Ended(["nsenter", f"--net={path}", "sleep", "600"])
    until(lambda: path.samefile(f"/proc/{process.pid}/ns/net"))
    return process


class _Ended(subprocess.Popen[bytes]):
    """A process that ends with its context."""

    def __exit__(self, *exc: object) -> None:
        self.kill()
        super().__exit__(None, None, None)


def seen_by(process: subprocess.Popen[bytes]) -> str:
    """The addresses in a process's namespace."""
    command = ["nsenter", f"--net=/proc/{process.pid}/ns/net", "ip", "address"]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
