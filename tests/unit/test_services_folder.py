"""The state folder: one user at a time, its identity, and what it lies on."""

import os
from pathlib import Path

import pytest

from compose.services.errors import StateFolderUnusable
from compose.services.folder import filesystem, kind_of_device, locked
from compose.services.identity import ensure_identity, write_private


def test_a_folder_has_one_user_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with locked(folder):
        with pytest.raises(StateFolderUnusable, match=f"in use by process {os.getpid()}"), locked(folder):
            pass
        assert (folder / "services.lock").read_text() == f"{os.getpid()}\n"
    with locked(folder):
        pass


def test_a_folder_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StateFolderUnusable, match=r"Not a directory.*MOORAGE_STATE_DIR"),
        locked(tmp_path / "file" / "state"),
    ):
        pass


def test_the_kernel_is_asked_for_the_file_system(tmp_path: Path) -> None:
    assert filesystem(Path("/proc")) == "proc"
    mounts = (
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "30 22 0:27 / /run/user rw - tmpfs tmpfs rw,size=1k\n"
        "damaged line\n"
    )
    assert kind_of_device(mounts, "254:0") == "ext4"
    assert kind_of_device(mounts, "0:27") == "tmpfs"
    assert kind_of_device(mounts, "9:9") is None


def test_an_identity_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    first = ensure_identity(tmp_path, data_exists=False)
    assert ensure_identity(tmp_path, data_exists=True) == first
    assert not (tmp_path / "services.json").stat().st_mode & 0o077
    secrets = {first.cookie, first.broker_password, first.database_password, first.database_admin_password}
    assert len(secrets) == 4
    assert not [secret for secret in secrets if secret in repr(first)]
    assert first.node.endswith("@localhost")


def test_two_folders_have_nothing_in_common(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    ours, theirs = (ensure_identity(folder, data_exists=False) for folder in (tmp_path, tmp_path / "other"))
    assert not {ours.node, ours.cookie, ours.broker_password} & {
        theirs.node,
        theirs.cookie,
        theirs.broker_password,
    }


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"node": 1', '{"node": "a@localhost"}'])
def test_a_damaged_identity_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "services.json").write_text(content)
    with pytest.raises(StateFolderUnusable, match="remove the folder"):
        ensure_identity(tmp_path, data_exists=True)


def test_data_without_its_passwords_is_not_given_new_ones(tmp_path: Path) -> None:
    with pytest.raises(StateFolderUnusable, match="which holds the passwords, is gone"):
        ensure_identity(tmp_path, data_exists=True)
    assert not list(tmp_path.iterdir())


def test_a_private_file_replaces_one_that_others_could_read(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("old")
    file.chmod(0o644)
    (tmp_path / "secret.new").write_text("what a killed writer left")
    write_private(file, "new")
    assert file.read_text() == "new"
    assert not file.stat().st_mode & 0o077
    assert list(tmp_path.iterdir()) == [file]
