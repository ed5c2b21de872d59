"""A node worker, its caller or its disk fails: what is left is finished or unwound, and harms nobody."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.machines import Pod, until
from tests.chaos.cni_relay import keeping_answers
from tests.chaos.commits import DONE_IN_SILENCE, CommitOf
from tests.chaos.proxy import Way
from tests.chaos.stage import Stage, address_of, code_of
from tests.chaos.truth import in_database

pytestmark = [pytest.mark.chaos, pytest.mark.services, pytest.mark.netns]

OWNER = "bank/api-0"
VALID = "cni.dev/valid-attachments"


def test_a_node_worker_killed_after_wiring_before_its_reply(stage: Stage):
    pod, node = stage.pod(OWNER), stage.node("node-1")
    with keeping_answers(stage.folder, node.socket, node.process.kill) as socket:
        assert code_of(pod.call("ADD", None, MOORAGE_CNI_SOCKET=str(socket))) == 11
    (given,) = stage.attached()
    assert str(given.address) in pod.links()
    stage.restart("node-1")
    pod.delete()
    assert str(given.address) not in pod.links()
    until(lambda: stage.events(OWNER) == ["address.attached", "address.freed"])


def test_a_node_worker_killed_between_the_allocators_answer_and_wiring(stage: Stage):
    pod, node = stage.pod(OWNER), stage.node("node-1")
    commit = stage.sql.judge = CommitOf(OWNER, DONE_IN_SILENCE)
    coming = stage.adding(pod)
    assert commit.met.wait(20)
    until(lambda: in_database(stage))
    node.process.kill()
    assert code_of(coming.result(60)) == 11
    stage.restart("node-1")
    pod.delete()
    until(lambda: stage.attached() == [])


def test_a_shim_killed_in_mid_add(stage: Stage):
    """The worker goes on, and what it made is unwound by the DEL that the runtime sends for a failed ADD."""
    pod, way = stage.pod(OWNER), stage.to_broker["node-1"]
    way.hold(Way.DOWN)
    coming = stage.adding(pod)
    until(lambda: in_database(stage))
    (shim,) = until(lambda: shims(pod))
    subprocess.run(["kill", "-KILL", shim], check=True)
    with pytest.raises(KeyError):  # it printed no answer
        code_of(coming.result(20))
    way.heal()
    pod.delete()
    assert "eth0" not in pod.links()
    until(lambda: stage.attached() == [])
    assert code_of(pod.call("ADD")) == 0


def shims(pod: Pod) -> list[str]:
    """The processes that make a call for this pod."""
    wanted = f"CNI_CONTAINERID={pod.container_id}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if wanted in environment.split(b"\0"):
            found.append(entry.name)
    return found


def test_a_stale_del_after_a_new_sandbox(stage: Stage):
    """It comes late, without a namespace, and once more from a worker that was killed meanwhile."""
    old = stage.pod("shop/web-0")
    address = address_of(old.add())
    here = stage.pod("shop/web-0")
    assert address_of(here.add()) == address
    old.call("DEL", None, CNI_NETNS="")
    stage.restart("node-1")
    old.delete()
    assert address in here.links()
    here.delete()
    elsewhere = stage.pod("shop/web-0", "node-2")
    assert address_of(elsewhere.add()) == address
    for late in (old, here):
        assert late.call("DEL", None, CNI_NETNS="") == (0, {})
    assert address in elsewhere.links()
    (held,) = stage.attached()
    assert (held.node, held.container_id) == ("node-2", elsewhere.container_id)


def test_a_del_with_empty_netns_repeated(stage: Stage):
    pod, never = stage.pod(OWNER), stage.pod("bank/api-1")
    pod.add()
    stage.end(pod)
    for _ in range(3):
        assert pod.call("DEL", None, CNI_NETNS="") == (0, {})
        assert never.call("DEL", None, CNI_NETNS="") == (0, {})
    until(lambda: stage.attached() == [])


@pytest.fixture
def small_disk(unbegun: Stage) -> Path:
    """The folder of node-1, on a disk of its own of 1 MiB."""
    folder = unbegun.folder_of("node-1")
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", folder], check=True)
    unbegun.undo.callback(subprocess.run, ["umount", folder], check=True)
    return folder


def test_a_journals_disk_that_is_full(unbegun: Stage, small_disk: Path):
    """DEL fails with 5, STATUS with 50, until there is room again; the runtime repeats its DEL then."""
    stage = unbegun
    stage.begin()
    pod, other = stage.pod(OWNER), stage.pod("bank/api-1")
    address = address_of(pod.add())
    ballast = small_disk / "ballast"
    fill(ballast)
    status, answer = pod.call("DEL")
    assert (status, answer["code"]) == (1, 5), answer
    assert "not found" not in (answer["msg"] + answer["details"]).lower()
    until(lambda: code_of(stage.status("node-1")) == 50, 30)
    assert code_of(other.call("ADD")) != 0
    assert stage.events(OWNER) == ["address.attached"]
    ballast.unlink()
    until(lambda: code_of(stage.status("node-1")) == 0, 30)
    pod.delete()
    until(lambda: stage.events(OWNER) == ["address.attached", "address.freed"])
    assert address_of(other.add()) != address


def fill(file: Path) -> None:
    """Leave no room beside `file`."""
    with file.open("wb", buffering=0) as out:
        try:
            while out.write(b"\0" * 4096):
                pass
        except OSError:
            pass


def test_a_gc_whose_list_is_absent_null_or_wrong(stage: Stage):
    """No such list says that a pod is gone whose namespace lives."""
    pods = [stage.pod(f"bank/api-{number}") for number in range(3)]
    held = [address_of(pod.add()) for pod in pods]
    gone = stage.pod("bank/gone-0")
    gone.add()
    known = [{"containerID": pods[0].container_id, "ifname": "eth0"}]
    assert stage.verb("GC", "node-1", {VALID: known}) == (0, {})
    assert addresses(pods) == held, "the list may have been made before the others' ADDs ended"
    stage.restart("node-1")  # what a worker finds when it starts is new to nobody
    others = {"name": "others", VALID: known}
    for conf in ({}, {VALID: None}, {VALID: []}, others):
        assert stage.verb("GC", "node-1", conf) == (0, {})
        assert addresses(pods) == held
    assert len(stage.attached()) == 4
    stage.end(gone)
    assert stage.verb("GC", "node-1", others) == (0, {})
    assert len(stage.attached()) == 4
    assert stage.verb("GC", "node-1", {VALID: None}) == (0, {})
    until(lambda: len(stage.attached()) == 3)
    assert addresses(pods) == held


def addresses(pods: list[Pod]) -> list[str]:
    """What each of them has on its eth0, IPv4 alone."""
    shown = [pod.run("ip", "-4", "-json", "address", "show", "dev", "eth0").stdout for pod in pods]
    return [json.loads(text)[0]["addr_info"][0]["local"] for text in shown]
