"""The images of compose/Dockerfile, built and run: as nobody, on a read-only root, with next to no power."""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from cni.netconf import SUPPORTED_VERSIONS
from compose.services.local import LocalServices
from node_worker.netlink import simulated
from tests.acceptance.hosts import inside
from tests.conftest import IN_CI
from tests.images.engine import Container, Engine, engine_in, why_not
from tests.kubernetes_manifests import pods, rendered

pytestmark = [pytest.mark.images, pytest.mark.timeout(1800)]
MOORAGE, NODE = "localhost/moorage:test", "localhost/moorage-node:test"
CAPABILITIES = ("--cap-add", "net_admin", "--cap-add", "sys_admin")


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    reason = "not root: images cannot be built" if os.geteuid() != 0 else why_not()
    if reason is not None and not IN_CI:
        pytest.skip(reason)
    assert reason is None, reason
    running = engine_in(tmp_path_factory.mktemp("images") / "e")
    try:
        running.make_base()
        running.build("moorage", MOORAGE)
        running.build("node", NODE)
        yield running
    finally:
        running.close()


def until(condition: Callable[[], Any], told: Callable[[], str] = lambda: "") -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_commands_run_as_nobody_on_a_read_only_root(engine: Engine):
    assert "Kubernetes pods keep their IP addresses" in engine.run(MOORAGE, "--help")
    asked = "id -u; grep CapEff /proc/self/status; touch /opt/moorage/x /tmp/x || true; echo done"
    done = engine.attempt(MOORAGE, "-c", asked, options=["--entrypoint", "sh"])
    user, effective, said = done.stdout.split("\n", 2)
    assert (user, effective.split()[1], said) == ("10480", "0" * 16, "done\n")
    assert done.stderr.count("Read-only file system") == 2


def test_an_image_is_described_and_checks_its_health(engine: Engine):
    for image, title in ((MOORAGE, "Moorage"), (NODE, "Moorage node")):
        config = engine.inspect(image)["Config"]
        labels = {
            key.rpartition(".")[2]: value
            for key, value in config["Labels"].items()
            if "opencontainers" in key
        }
        assert (labels["title"], labels["licenses"]) == (title, "Apache-2.0")
        assert (labels["version"], labels["revision"]) == ("0.1.0", "0123456789ab")
        health = engine.inspect(image)["Healthcheck"]
        assert health["Test"] == ["CMD", "python3", "-m", "compose.health_probe"]
    assert engine.inspect(MOORAGE)["Config"]["User"] == "10480:10480"


def test_no_layer_holds_what_the_build_was_given_or_no_longer_needs(engine: Engine):
    known = json.dumps([engine.inspect(image) for image in (MOORAGE, NODE)]).lower()
    assert "password" not in known
    for image in (MOORAGE, NODE):
        with engine.files(image) as root:
            assert not (root / "etc/pip.conf").exists() or not (root / "etc/pip.conf").read_text()
            assert not (root / "run/secrets/ca").exists()
            site = next((root / "opt/moorage/lib").glob("python3*/site-packages"))
            assert not (site / "pip").exists()
            assert not (root / "src").exists()
            assert (root / "opt/moorage/libexec/moorage-cni").exists() is (image == NODE)


def test_every_module_is_compiled_for_nothing_can_be_written_where_they_run(engine: Engine):
    with engine.files(NODE) as root:
        site = next((root / "opt/moorage/lib").glob("python3*/site-packages"))
        ours = [path for name in ("compose", "broker", "node_worker") for path in (site / name).rglob("*.py")]
        assert len(ours) > 50
        for path in ours:
            assert list((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc")), path


def test_the_installer_puts_an_executable_on_the_node_that_speaks_the_versions(
    engine: Engine, tmp_path: Path
):
    folders = volumes(tmp_path, **{"/opt/cni/bin": "bin", "/etc/cni/net.d": "net.d"})
    engine.run(NODE, "cni", "install", "--network", "prod", "--no-wait", options=folders)
    asked = {"env": {"CNI_COMMAND": "VERSION"}, "input": '{"cniVersion": "1.0.0"}'}
    done = subprocess.run([tmp_path / "bin/moorage"], capture_output=True, text=True, check=True, **asked)
    assert tuple(json.loads(done.stdout)["supportedVersions"]) == SUPPORTED_VERSIONS
    conflist = tmp_path / "net.d/10-moorage.conflist"
    assert json.loads(conflist.read_text())["plugins"][0]["network"] == "prod"
    engine.run(NODE, "cni", "uninstall", "--shim-too", options=folders)
    assert (conflist.exists(), (tmp_path / "bin/moorage").exists()) == (False, False)


def volumes(folder: Path, **inside_by_name: str) -> list[str]:
    """Folders of the host, by where they are inside."""
    words = []
    for place, name in inside_by_name.items():
        (folder / name).mkdir(exist_ok=True)
        words += ["--volume", f"{folder / name}:{place}"]
    return words


@dataclass
class Cluster:
    """An allocator, and a node with its worker, all of them containers."""

    engine: Engine
    folder: Path
    host: str
    urls: Mapping[str, str]
    allocator: Container

    def command(self, *words: str) -> Any:
        """What a command answers that an operator gives."""
        env = {"MOORAGE_AMQP_URL": self.urls["operator"]}
        return json.loads(self.engine.run(MOORAGE, *words, "--output", "json", env=env))

    @contextlib.contextmanager
    def worker(self) -> Iterator[Container]:
        """The node worker, as the manifests run it."""
        env = {
            "MOORAGE_AMQP_URL": self.urls["node"],
            "MOORAGE_NODE_NAME": "node-1",
            "MOORAGE_NODE_NETNS": f"/run/netns/{self.host}",
            "MOORAGE_MONITORING": f"127.0.0.1:{free_port()}",
        }
        mounts = volumes(self.folder, **{"/var/lib/moorage": "state", "/run/moorage": "run"})
        mounts += ["--volume", "/run/netns:/run/netns:rslave"]
        mounts += ["--volume", "/proc/sys/net:/host/proc/sys/net"]
        options = [*CAPABILITIES, *mounts]
        with self.engine.running("worker", NODE, "node", options=options, env=env) as worker:
            until(lambda: worker.healthy("/readyz"), worker.logs)
            yield worker

    @contextlib.contextmanager
    def installer(self, network: str) -> Iterator[Container]:
        """The installer beside it."""
        places = {"/run/moorage": "run", "/opt/cni/bin": "bin", "/etc/cni/net.d": "net.d"}
        env = {"MOORAGE_MONITORING": f"127.0.0.1:{free_port()}"}
        words = ["cni", "install", "--keep", "--network", network]
        options = volumes(self.folder, **places)
        with self.engine.running("installer", NODE, *words, options=options, env=env) as installer:
            yield installer

    @contextlib.contextmanager
    def console(self) -> Iterator[Container]:
        """The console, within this machine."""
        env = {
            "MOORAGE_AMQP_URL": self.urls["console"],
            "MOORAGE_CONSOLE_LISTEN": f"127.0.0.1:{free_port()}",
            "MOORAGE_MONITORING": f"127.0.0.1:{free_port()}",
        }
        with self.engine.running("console", MOORAGE, "console", env=env) as console:
            until(lambda: console.healthy("/readyz"), console.logs)
            yield console

    def cni(self, verb: str, netns: str, network: str = "prod") -> Any:
        """Call the executable that the installer put there, as a runtime does."""
        conf = {"cniVersion": "1.0.0", "name": "moorage", "type": "moorage", "network": network}
        env = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": netns,
            "CNI_NETNS": f"/run/netns/{netns}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.folder / "bin"),
            "CNI_ARGS": f"K8S_POD_NAMESPACE=shop;K8S_POD_NAME={netns}",
            "MOORAGE_CNI_SOCKET": str(self.folder / "run/cni.sock"),
        }
        program = [self.folder / "bin/moorage"]
        done = subprocess.run(
            program, env=env, input=json.dumps(conf), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout
        return json.loads(done.stdout) if done.stdout else None


@pytest.fixture
def namespaces() -> Iterator[Callable[[], str]]:
    """Makes network namespaces, and removes them."""
    made: list[str] = []

    def make() -> str:
        made.append(f"moi-{secrets.token_hex(4)}")
        simulated.create_netns(made[-1])
        return made[-1]

    yield make
    for name in made:
        simulated.remove_netns(name)


@pytest.fixture
def cluster(
    engine: Engine,
    services: LocalServices,
    tmp_path_factory: pytest.TempPathFactory,
    namespaces: Callable[[], str],
) -> Iterator[Cluster]:
    management = {"MOORAGE_MANAGEMENT_URL": services.management_url}
    database = {"MOORAGE_DATABASE_URL": services.database_url}

    def enrolled(*words: str) -> str:
        answer = json.loads(engine.run(MOORAGE, *words, "--rotate", "--output", "json", env=management))
        return str(answer["amqp_url"])

    assert "at revision" in engine.run(MOORAGE, "db", "upgrade", env=database)
    allocator_url = enrolled("broker", "provision")
    urls = {
        "node": enrolled("node", "enroll", "node-1"),
        "console": enrolled("client", "enroll", "web", "--role", "console"),
        "operator": enrolled("client", "enroll", "ops", "--role", "operator"),
    }
    monitoring = {"MOORAGE_MONITORING": f"127.0.0.1:{free_port()}"}
    env = {"MOORAGE_AMQP_URL": allocator_url, "MOORAGE_DATABASE_URL": of_rows_alone(services), **monitoring}
    with engine.running("allocator", MOORAGE, "allocator", env=env) as allocator:
        until(lambda: allocator.healthy("/readyz"), allocator.logs)
        assert allocator.healthy()
        yield Cluster(engine, tmp_path_factory.mktemp("c"), namespaces(), urls, allocator)


def of_rows_alone(services: LocalServices) -> str:
    """A user of the database that can read and write rows, and change no table."""
    whole = make_url(services.database_url)
    with services.mariadb._admin() as admin, admin.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE USER 'rows'@'127.0.0.1' IDENTIFIED BY 'rows'")
        cursor.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON `{whole.database}`.* TO 'rows'@'127.0.0.1'")
    return whole.set(username="rows", password="rows").render_as_string(hide_password=False)


@pytest.mark.services
@pytest.mark.netns
def test_pods_are_attached_by_containers_and_do_not_notice_when_these_are_replaced(
    cluster: Cluster, namespaces: Callable[[], str]
):
    with cluster.installer("prod") as installer:
        until((cluster.folder / "bin/moorage").exists, installer.logs)
        assert not installer.healthy("/readyz"), "there is no worker yet"
        assert not (cluster.folder / "net.d/10-moorage.conflist").exists()
        with cluster.worker() as worker:
            prod = ["--subnet", "10.77.0.0/24", "--subnet", "fd00:77::/64"]
            cluster.command("network", "create", "prod", *prod)
            until(lambda: installer.healthy("/readyz"), installer.logs)
            assert (cluster.folder / "net.d/10-moorage.conflist").exists()
            pod = namespaces()  # mounted while the worker runs
            given = {item["address"] for item in cluster.cni("ADD", pod)["ips"]}
            assert shown(pod) == given
            assert len(given) == 2, "both families: links' settings were written"
            assert worker.healthy()
        assert shown(pod) == given, "no worker runs"
    assert (cluster.folder / "net.d/10-moorage.conflist").exists(), "the node stays a node that attaches pods"
    with cluster.worker():
        assert shown(pod) == given
        cluster.cni("DEL", pod)
        found = cluster.command("address", "list", "prod")
        assert {address["state"] for address in found["addresses"]} == {"free"}


@pytest.mark.services
@pytest.mark.netns
def test_the_node_image_has_what_masquerading_needs(cluster: Cluster):
    with cluster.worker():
        words = ["--subnet", "10.78.0.0/24,gateway=10.78.0.1", "--gateway-on-node", "--masquerade"]
        cluster.command("network", "create", "out", *words)
        host = simulated.netns_path(cluster.host)
        assert "masquerade" in inside(host, "nft", "list", "ruleset")
        assert inside(host, "cat", "/proc/sys/net/ipv4/ip_forward").strip() == "1"


@pytest.mark.services
@pytest.mark.netns
def test_each_takes_less_memory_than_its_manifest_asks_for(cluster: Cluster):
    with cluster.worker() as worker, cluster.installer("lab") as installer, cluster.console() as console:
        cluster.command("network", "create", "lab", "--subnet", "10.79.0.0/24")
        until(lambda: installer.healthy("/readyz"), installer.logs)
        parts = {"allocator": cluster.allocator, "console": console, "installer": installer, "node": worker}
        took = {name: container.resident_mb() for name, container in parts.items()}
    print("resident MB:", {name: round(megabytes) for name, megabytes in took.items()})
    asked = {
        item["name"]: int(item["resources"]["requests"]["memory"].removesuffix("Mi")) * 1.048576
        for pod in pods(rendered("base"))
        for item in pod.containers()
    }
    assert {name: took[name] for name in took if took[name] >= asked[name]} == {}


def shown(netns: str) -> set[str]:
    (link,) = json.loads(inside(simulated.netns_path(netns), "ip", "-j", "address", "show", "eth0"))
    kept = [address for address in link["addr_info"] if address["scope"] == "global"]
    return {f"{address['local']}/{address['prefixlen']}" for address in kept}
