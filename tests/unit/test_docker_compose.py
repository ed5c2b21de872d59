"""compose/docker-compose.yml: what Docker takes, and the rules that docs/containers.md states."""

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from pymysql import _auth as pymysql_auth

from compose.settings import Settings
from tests.conftest import ROOT
from tests.kubernetes_manifests import NODE_OVERLAYS

FILE = ROOT / "compose" / "docker-compose.yml"
SERVERS = {"rabbitmq", "mysql"}


@cache
def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return found


def ours() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, service in document()["services"].items():
        if name not in SERVERS:
            yield name, service


def test_it_is_as_the_specification_says():
    schema = json.loads((ROOT / "tests" / "compose_spec" / "compose-spec.json").read_text())
    validator = jsonschema_rs.validator_for(schema)
    assert [error.message for error in validator.iter_errors(document())] == []
    wrong = document() | {"services": {"node": {"image": "x", "read_onyl": True}}}
    assert not validator.is_valid(wrong), "unknown fields are found"


def test_what_is_ours_has_a_read_only_root_and_no_power_but_the_node_worker():
    for name, service in ours():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        added = set(service.get("cap_add", []))
        assert added == (NODE_OVERLAYS["base"] if name == "node" else set()), name
        assert not {"privileged", "pid", "ipc", "userns_mode", "user", "devices"} & set(service), name


def test_servers_and_images_are_pinned():
    images = {name: service["image"] for name, service in document()["services"].items()}
    assert re.fullmatch(r"rabbitmq:4\.[0-9]+\.[0-9]+-management", images["rabbitmq"])
    assert re.fullmatch(r"mysql:8\.4\.[0-9]+", images["mysql"])
    version = re.search(r"^version = (.*)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    assert version is not None
    for name, service in ours():
        target = service["build"]["target"]
        assert images[name] == f"{ {'moorage': 'moorage', 'node': 'moorage-node'}[target] }:{version[1]}"
        assert (FILE.parent / service["build"]["context"] / service["build"]["dockerfile"]).exists()


def test_no_password_is_in_a_variable_or_an_argument():
    for name, service in document()["services"].items():
        for key, value in service.get("environment", {}).items():
            assert not re.search("PASS|URL|TOKEN|SECRET", key) or key.endswith("_FILE"), f"{name} {key}"
            assert "://" not in value, f"{name} {key}"
        assert "://" not in json.dumps(service.get("command", [])), name
    known = set(document()["secrets"])
    used = [each for service in document()["services"].values() for each in service.get("secrets", [])]
    assert {each if isinstance(each, str) else each["source"] for each in used} == known


def test_every_variable_is_a_setting():
    for name, service in ours():
        for key in service.get("environment", {}):
            assert key.removeprefix("MOORAGE_").lower() in Settings.model_fields, f"{name} {key}"


def test_two_allocators_share_the_partitions():
    services = document()["services"]
    shares = [
        services[name]["environment"]["MOORAGE_ALLOCATOR_PARTITIONS"]
        for name in ("allocator-1", "allocator-2")
    ]
    assert sorted(",".join(shares).split(",")) == ["0", "1", "2", "3"]
    assert len(services["allocator-2"]["environment"]) == 3, "the rest is the first one's"


def test_everything_waits_for_what_it_needs():
    needed = {
        "setup": {"rabbitmq": "service_healthy", "mysql": "service_healthy"},
        "setup-node": {"setup": "service_completed_successfully"},
        "node": {"setup-node": "service_completed_successfully"},
    }
    for name, service in ours():
        waits = {on: how["condition"] for on, how in service.get("depends_on", {}).items()}
        usual = {} if name == "installer" else {"setup": "service_completed_successfully"}
        assert waits == needed.get(name, usual), name
    for name in SERVERS:
        assert document()["services"][name]["healthcheck"]["test"][0] == "CMD"


def test_the_node_worker_sees_namespaces_that_are_mounted_later():
    mounts = [mount for mount in document()["services"]["node"]["volumes"] if isinstance(mount, dict)]
    by_target = {mount["target"]: mount for mount in mounts}
    assert by_target["/run/netns"]["bind"]["propagation"] == "rslave"
    assert by_target["/host/proc/sys/net"]["source"] == "/proc/sys/net"
    assert set(by_target) == {"/run/netns", "/host/proc/sys/net", "/run/moorage", "/var/lib/moorage"}


def test_nothing_can_be_reached_from_other_machines():
    for name, service in document()["services"].items():
        for published in service.get("ports", []):
            assert published.startswith("127.0.0.1:"), name
        for key, value in service.get("environment", {}).items():
            if service.get("network_mode") == "host" and key in (
                "MOORAGE_MONITORING",
                "MOORAGE_CONSOLE_LISTEN",
            ):
                assert value.startswith("127.0.0.1:"), name


def test_those_on_the_machines_network_want_ports_of_their_own():
    addresses = [
        value
        for _, service in ours()
        if service.get("network_mode") == "host"
        for key, value in service["environment"].items()
        if key in ("MOORAGE_MONITORING", "MOORAGE_CONSOLE_LISTEN")
    ]
    assert len(addresses) == len(set(addresses)) == 4


@pytest.mark.parametrize("name", ["setup", "setup-node"])
def test_what_a_setup_runs_is_a_shell_script(name: str):
    service = document()["services"][name]
    assert service["entrypoint"] == ["sh", "-euc"]
    (script,) = service["command"]
    subprocess.run(["sh", "-n"], input=script.replace("$$", "$"), text=True, check=True)


def test_secrets_are_made_once_and_only_their_owner_reaches_them(tmp_path: Path):
    folder = tmp_path / "secrets"
    make = ["sh", ROOT / "compose" / "secrets.sh", folder]
    first = subprocess.run(make, capture_output=True, text=True, check=True)
    assert folder.stat().st_mode & 0o777 == 0o700
    made = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(made) == set(document()["secrets"])
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in folder.iterdir())
    passwords = set(re.findall("[0-9a-f]{48}", "".join(made.values())))
    assert len(passwords) == 3
    assert not any(password in first.stdout + first.stderr for password in passwords)
    assert made["rabbitmq.conf"].split()[-1] in made["management-url"]
    assert made["mysql-password"].strip() in made["database-url"]
    again = subprocess.run(make, capture_output=True, text=True, check=True)
    assert again.stdout == ""
    assert {path.name: path.read_text() for path in folder.iterdir()} == made


def test_secrets_come_into_neither_the_repository_nor_an_image():
    assert "compose/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert ignored.index("compose/secrets") > ignored.index("!compose")


def test_the_driver_can_sign_in_where_mysql_wants_its_own_way_and_there_is_no_tls():
    """caching_sha2_password, MySQL 8.4's default, has the password encrypted for the server's key."""
    assert pymysql_auth._have_cryptography
