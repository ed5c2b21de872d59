"""The images of compose/Dockerfile, built and run: as nobody, on a read-only root, with next to no power."""

import contextlib
import dataclasses
import json
import os
import re
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import make_url

from cni.netconf import SUPPORTED_VERSIONS
from compose.services.local import LocalServices
from node_worker.netlink import simulated
from tests.acceptance.hosts import inside
from tests.conftest import IN_CI, ROOT
from tests.images.composed import Composed, secret_files
from tests.images.engine import BASE, Container, Engine, engine_in, why_not
from tests.kubernetes_manifests import pods, rendered

pytestmark = [pytest.mark.images, pytest.mark.timeout(1800)]
MOORAGE, NODE = "localhost/moorage:test", "localhost/moorage-node:test"


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


def test_an_image_adds_as_much_to_its_base_as_the_page_says(engine: Engine):
    page = (ROOT / "docs" / "containers.md").read_text()
    ((said, said_of_node),) = re.findall(r"add ([0-9]+) and ([0-9]+) MB to their base", page)
    for image, megabytes in ((MOORAGE, said), (NODE, said_of_node)):
        added = (engine.inspect(image)["Size"] - engine.inspect(BASE)["Size"]) / 1e6
        assert added == pytest.approx(int(megabytes), rel=0.05), image


def test_the_client_for_kubernetes_can_be_used_without_the_half_that_was_left_out(engine: Engine):
    used = "from kubernetes import client, config; client.AppsV1Api(client.ApiClient())"
    asked = f"import importlib.util as u; {used}; print(u.find_spec('kubernetes.aio'))"
    assert engine.run(MOORAGE, "-c", asked, options=["--entrypoint", "python3"]) == "None\n"


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
    """What the compose file runs: an allocator, and a node with its worker, all of them containers."""

    composed: Composed
    folder: Path
    host: str
    allocator: Container

    def command(self, *words: str) -> Any:
        """What a command answers that an operator gives."""
        return json.loads(self.composed.once("operator", *words, "--output", "json"))

    @contextlib.contextmanager
    def worker(self) -> Iterator[Container]:
        """The node worker."""
        env = {"MOORAGE_NODE_NETNS": f"/run/netns/{self.host}", **monitoring()}
        with self.composed.running("node", env) as worker:
            until(lambda: worker.healthy("/readyz"), worker.logs)
            yield worker

    @contextlib.contextmanager
    def installer(self, network: str) -> Iterator[Container]:
        """The installer beside it."""
        composed = dataclasses.replace(self.composed, variables={"MOORAGE_NETWORK": network})
        with composed.running("installer", monitoring()) as installer:
            yield installer

    @contextlib.contextmanager
    def console(self) -> Iterator[Container]:
        """The console, within this machine."""
        env = {"MOORAGE_CONSOLE_LISTEN": f"127.0.0.1:{free_port()}", **monitoring()}
        with self.composed.running("console", env) as console:
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
            "CNI_PATH": str(self.folder / "opt-cni-bin"),
            "CNI_ARGS": f"K8S_POD_NAMESPACE=shop;K8S_POD_NAME={netns}",
            "MOORAGE_CNI_SOCKET": str(self.folder / "run-moorage/cni.sock"),
        }
        program = [self.folder / "opt-cni-bin/moorage"]
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
    folder, host = tmp_path_factory.mktemp("c"), namespaces()
    urls = {
        "management-url": services.management_url,
        "database-url": services.database_url,
        "rows-url": of_rows_alone(services),
    }
    composed = Composed(
        engine,
        prefix=host,
        folder=folder,
        amqp=urlsplit(services.amqp_url).netloc.rpartition("@")[2],
        images={"moorage": MOORAGE, "node": NODE},
        secrets=secret_files(folder / "secrets", urls),
    )
    try:
        assert "at revision" in composed.once("setup")
        composed.once("setup-node")
        rows = {"database-url": composed.secrets["rows-url"]}
        with composed.running("allocator-1", monitoring(), rows) as allocator:
            until(lambda: allocator.healthy("/readyz"), allocator.logs)
            assert allocator.healthy()
            yield Cluster(composed, folder, host, allocator)
    finally:
        composed.remove()


def monitoring() -> dict[str, str]:
    """Where nobody else tells of itself: the tests' containers all have this machine's network."""
    return {"MOORAGE_MONITORING": f"127.0.0.1:{free_port()}"}


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
        until((cluster.folder / "opt-cni-bin/moorage").exists, installer.logs)
        assert not installer.healthy("/readyz"), "there is no worker yet"
        assert not (cluster.folder / "etc-cni-net.d/10-moorage.conflist").exists()
        with cluster.worker() as worker:
            prod = ["--subnet", "10.77.0.0/24", "--subnet", "fd00:77::/64"]
            cluster.command("network", "create", "prod", *prod)
            until(lambda: installer.healthy("/readyz"), installer.logs)
            assert (cluster.folder / "etc-cni-net.d/10-moorage.conflist").exists()
            pod = namespaces()  # mounted while the worker runs
            given = {item["address"] for item in cluster.cni("ADD", pod)["ips"]}
            assert shown(pod) == given
            assert len(given) == 2, "both families: links' settings were written"
            assert worker.healthy()
        assert shown(pod) == given, "no worker runs"
    assert (cluster.folder / "etc-cni-net.d/10-moorage.conflist").exists(), (
        "the node stays a node that attaches pods"
    )
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
def test_a_network_that_wants_its_segment_asked_is_refused_without_the_power_to_ask(cluster: Cluster):
    with cluster.worker():
        words = ("network", "create", "lan", "--subnet", "10.81.0.0/24")
        refused = cluster.composed.attempt("operator", *words, "--probe")
        assert refused.returncode == 1
        assert "kernel_refused" in refused.stdout + refused.stderr
        assert "CAP_NET_RAW" in refused.stdout + refused.stderr
        cluster.command(*words, "--no-probe")


@pytest.mark.services
@pytest.mark.netns
def test_setting_up_again_keeps_the_passwords_and_each_file_is_its_users_alone(cluster: Cluster):
    composed = cluster.composed
    files = {"credentials": ("allocator", "operator", "console"), "node-settings": ("amqp-url",)}
    before = {name: composed.file(volume, name) for volume in files for name in files[volume]}
    composed.once("setup")
    composed.once("setup-node")
    assert {name: composed.file(volume, name) for volume in files for name in files[volume]} == before
    assert len({urlsplit(url).password for url in before.values()}) == 4
    assert composed.modes("credentials") == dict.fromkeys(files["credentials"], (10480, 0o600))
    assert composed.modes("node-settings") == {"amqp-url": (0, 0o600)}


@pytest.mark.services
@pytest.mark.netns
def test_a_nodes_rotated_password_reaches_its_worker_as_it_runs_and_no_password_is_told(cluster: Cluster):
    composed = cluster.composed
    with cluster.worker() as worker, cluster.console() as console:
        before = composed.file("node-settings", "amqp-url")
        file = "/etc/moorage/amqp-url"
        rotate = f"moorage node enroll node-1 --rotate --disconnect --url-file {file} --amqp {composed.amqp}"
        composed.once("setup-node", "-euc", rotate)
        after = composed.file("node-settings", "amqp-url")
        assert urlsplit(after).password != urlsplit(before).password
        cluster.command("network", "create", "turned", "--subnet", "10.80.0.0/24")
        until(lambda: worker.healthy("/readyz"), worker.logs)
        urls = [before, after, *(composed.file("credentials", name) for name in ("allocator", "console"))]
        passwords = [str(urlsplit(url).password) for url in urls]
        for container in (cluster.allocator, console, worker):
            told = container.told()
            assert [password for password in passwords if password in told] == [], container.name


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
