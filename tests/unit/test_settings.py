"""Settings that cannot be used are named, and those that can are read."""

from pathlib import Path

import pytest

from compose.node_process import worker_config
from compose.settings import read_settings
from node_worker.netns_folders import NETNS_FOLDERS
from schemas.errors import Code, ServiceError


def test_history_is_kept_for_400_days_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MOORAGE_HISTORY_DAYS", raising=False)
    assert read_settings().history_days == 400
    monkeypatch.setenv("MOORAGE_HISTORY_DAYS", "1")
    assert read_settings().history_days == 1


@pytest.mark.parametrize("days", ["0", "-1", "0.5", "soon"])
def test_history_is_kept_for_at_least_a_day(monkeypatch: pytest.MonkeyPatch, days: str):
    """A released attachment must stay known for longer than any request for it can be late."""
    monkeypatch.setenv("MOORAGE_HISTORY_DAYS", days)
    with pytest.raises(ServiceError, match="history_days") as caught:
        read_settings()
    assert caught.value.code == Code.INVALID_REQUEST


@pytest.mark.parametrize(("told", "read"), [("", ""), ("0", "0"), ("0,3", "0,3")])
def test_preferred_partitions_are_numbers_with_commas(monkeypatch: pytest.MonkeyPatch, told: str, read: str):
    monkeypatch.setenv("MOORAGE_ALLOCATOR_PARTITIONS", told)
    assert read_settings().allocator_partitions == read


@pytest.mark.parametrize("told", ["x", "0,", "0 1", "-1"])
def test_partitions_that_are_no_numbers_are_refused(monkeypatch: pytest.MonkeyPatch, told: str):
    monkeypatch.setenv("MOORAGE_ALLOCATOR_PARTITIONS", told)
    with pytest.raises(ServiceError, match="allocator_partitions"):
        read_settings()


def test_folders_for_namespaces_are_absolute_paths_with_colons(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MOORAGE_NETNS_FOLDERS", raising=False)
    assert read_settings().netns_folders.split(":") == [str(folder) for folder in NETNS_FOLDERS]
    monkeypatch.setenv("MOORAGE_NETNS_FOLDERS", "/srv/netns:/proc")
    monkeypatch.setenv("MOORAGE_NODE_NAME", "node-1")
    assert worker_config(read_settings()).netns_folders == (Path("/srv/netns"), Path("/proc"))


@pytest.mark.parametrize("told", ["netns", "/a:", ":/a", "/a::/b", "/a:b"])
def test_folders_that_are_no_absolute_paths_are_refused(monkeypatch: pytest.MonkeyPatch, told: str):
    monkeypatch.setenv("MOORAGE_NETNS_FOLDERS", told)
    with pytest.raises(ServiceError, match="netns_folders"):
        read_settings()


@pytest.mark.parametrize("told", ["127.0.0.1:9464", "[::1]:9464", "0.0.0.0:0"])
def test_monitoring_is_where_it_was_told_to_be_and_nowhere_else(monkeypatch: pytest.MonkeyPatch, told: str):
    monkeypatch.delenv("MOORAGE_MONITORING", raising=False)
    assert read_settings().monitoring is None
    monkeypatch.setenv("MOORAGE_MONITORING", told)
    assert read_settings().monitoring == told


@pytest.mark.parametrize("told", ["9464", ":9464", "localhost", "127.0.0.1:70000"])
def test_what_is_no_address_for_monitoring_is_refused_in_words(monkeypatch: pytest.MonkeyPatch, told: str):
    monkeypatch.setenv("MOORAGE_MONITORING", told)
    with pytest.raises(ServiceError, match=r"monitoring.*(HOST:PORT, such as|highest is 65535)"):
        read_settings()
