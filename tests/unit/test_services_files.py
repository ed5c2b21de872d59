"""What the servers are started with: programs, configuration, accounts and sockets."""

import os
from pathlib import Path

import pytest

from compose.services.errors import ProgramsMissing
from compose.services.identity import ensure_identity
from compose.services.mariadb_data import accounts, socket_path
from compose.services.programs import find_programs, search_path
from compose.services.rabbitmq_node import Ports, configuration, environment


def test_missing_programs_are_told_at_once_with_their_packages(tmp_path: Path) -> None:
    epmd = tmp_path / "epmd"
    epmd.touch(mode=0o755)
    with pytest.raises(ProgramsMissing) as caught:
        find_programs(rabbitmq_folders=[tmp_path], path=str(tmp_path))
    assert "apt-get install mariadb-server rabbitmq-server" in str(caught.value)
    assert caught.value.fields["missing"] == ["erl", "mariadb-install-db", "mariadbd", "rabbitmq-server"]


def test_the_newest_server_is_taken(tmp_path: Path) -> None:
    for version in ("3.9.2", "3.13.1", "3.10.8"):
        script = tmp_path / "lib" / f"rabbitmq_server-{version}" / "sbin" / "rabbitmq-server"
        script.parent.mkdir(parents=True)
        script.touch()
    for name in ("epmd", "erl", "mariadbd", "mariadb-install-db"):
        (tmp_path / name).touch(mode=0o755)
    programs = find_programs(rabbitmq_folders=[tmp_path / "nowhere", tmp_path / "lib"], path=str(tmp_path))
    assert programs.rabbitmq_server.parts[-3] == "rabbitmq_server-3.13.1"
    assert programs.mariadb_install_db == tmp_path / "mariadb-install-db"


def test_servers_are_found_by_users_without_sbin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/usr/sbin")
    assert search_path() == "/usr/bin:/usr/sbin:/usr/local/sbin:/sbin"


def test_a_socket_whose_path_is_too_long_lies_in_a_short_private_folder(tmp_path: Path) -> None:
    assert socket_path(tmp_path) == tmp_path / "mariadb.sock"
    far = tmp_path / ("ü" * 50)  # two bytes each
    path = socket_path(far)
    assert len(os.fsencode(path)) <= 107
    assert not path.parent.stat().st_mode & 0o077
    path.parent.rmdir()


def test_a_node_reads_and_writes_below_its_folder_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_NODENAME", "somebody@else")
    monkeypatch.setenv("ERL_EPMD_PORT", "4369")
    given = environment(Path("/state"), "moorage-1@localhost", Ports(1, 2, 3, 4))
    assert given["RABBITMQ_NODENAME"] == "moorage-1@localhost"
    assert given["ERL_EPMD_PORT"] == "1"
    paths = {name: value for name, value in given.items() if value.startswith("/") and name != "PATH"}
    assert len(paths) >= 9
    assert not [name for name, value in paths.items() if not value.startswith("/state")]


def test_a_node_listens_on_loopback_and_knows_no_guest() -> None:
    text = configuration(Ports(1, 2, 3, 4), "secret")
    assert "listeners.tcp.default = 127.0.0.1:3\n" in text
    assert "management.tcp.ip = 127.0.0.1\n" in text
    assert "default_user = admin\n" in text
    assert "guest" not in text


def test_accounts_are_bound_to_where_they_are_used_from(tmp_path: Path) -> None:
    statements = accounts(ensure_identity(tmp_path, data_exists=False)).splitlines()
    users = [line for line in statements if line.startswith("CREATE USER")]
    assert ["@'127.0.0.1'" in users[0], "@'localhost'" in users[1]] == [True, True]
    assert not [line for line in statements if "'%'" in line]
