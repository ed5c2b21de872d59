"""Which paths may name a pod's network namespace."""

from pathlib import Path

import pytest

from node_worker.netns_folders import NETNS_FOLDERS, check_named, check_opened
from schemas.errors import Code, ServiceError


@pytest.mark.parametrize(
    "path",
    [
        "/run/netns/cni-1",
        "/var/run/netns/cni-1",
        "/proc/4711/ns/net",
        "/run/docker/netns/5b7e",
        "/var/run/docker/netns/5b7e",
        "/run/user/1000/netns/netns-1",
        "/run//netns/./cni-1",
    ],
)
def test_the_places_that_runtimes_use_are_taken(path: str):
    check_named(path, NETNS_FOLDERS)


@pytest.mark.parametrize(
    "path",
    ["", "run/netns/x", "/tmp/x", "/run/netns", "/run/netns-evil/x", "/run/x", "//run/netns/x", "/", "."],
)
def test_a_path_outside_is_refused_with_the_setting_to_change(path: str):
    with pytest.raises(ServiceError, match="MOORAGE_NETNS_FOLDERS, which is /run/netns:/var/run") as caught:
        check_named(path, NETNS_FOLDERS)
    assert caught.value.code == Code.NETNS_UNUSABLE
    assert caught.value.fields == {"netns": path}


@pytest.mark.parametrize("path", ["/run/netns/../../etc/x", "/run/netns/..", "../run/netns/x"])
def test_a_path_that_climbs_is_refused_also_when_it_ends_inside(path: str):
    with pytest.raises(ServiceError, match=r"has a '\.\.'"):
        check_named(path, [Path("/")])


@pytest.mark.parametrize("place", ["/run/netns/x", "net:[4026531840]"])
def test_what_was_opened_is_inside_or_the_kernels_own(place: str):
    check_opened("/run/netns/x", place, [Path("/run/netns")])


@pytest.mark.parametrize(
    "place", ["/home/x", "mnt:[4026531840]", "(unreachable)/run/netns/x", "/home/net:[4026531840]"]
)
def test_a_link_that_led_out_is_refused(place: str):
    with pytest.raises(ServiceError, match="leads to") as caught:
        check_opened("/run/netns/x", place, [Path("/run/netns")])
    assert caught.value.code == Code.NETNS_UNUSABLE


def test_a_folder_may_be_a_link_itself(tmp_path: Path):
    (tmp_path / "link").symlink_to("real")
    check_opened("x", str(tmp_path / "real" / "x"), [tmp_path / "link"])
