"""What the documents must not forget: every request and every error that somebody may meet."""

import json
import re
from pathlib import Path

import pytest

from cni.errors import CniError
from cni.netconf import NetConf
from cni.wishes import ANNOTATIONS, Wishes, read_wishes
from schemas.errors import Code
from schemas.requests import REQUESTS

DOCS = Path(__file__).parent.parent.parent / "docs"
MESSAGES = (DOCS / "messages.md").read_text()
POD_REQUESTS = (DOCS / "pod-requests.md").read_text()
RUNTIMES = (DOCS / "runtimes.md").read_text()
CONF = Path(__file__).parent.parent / "acceptance" / "conf"


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_every_request_is_described(name: str):
    assert f"`{name}`" in MESSAGES


@pytest.mark.parametrize("code", sorted(Code))
def test_every_error_code_is_explained(code: str):
    assert f"`{code}`" in MESSAGES


def test_the_requests_with_a_second_version_are_those_that_are_named():
    (told,) = re.findall(r"(.*) have `schema_version` 2, all others 1", MESSAGES)
    named = set(re.findall(r"`([a-z._]+)`", told))
    assert named == {name for name, request in REQUESTS.items() if request.VERSION == 2}
    newer = {name for name, request in REQUESTS.items() if request.VERSION == 3}
    assert set(re.findall(r"but for `([a-z.]+)`: it has 3", MESSAGES)) == newer
    assert {request.VERSION for request in REQUESTS.values()} == {1, 2, 3}


def wishes(annotations: dict[str, str], args: dict[str, str], ifname: str = "eth0") -> Wishes:
    runtime = {ANNOTATIONS: annotations}
    conf = NetConf(cniVersion="1.1.0", name="pods", type="moorage", network="other", runtimeConfig=runtime)
    return read_wishes(conf, args, ifname)


def test_the_annotations_that_are_shown_are_read():
    (block,) = re.findall(r"```yaml\n(.*?)```", POD_REQUESTS, re.DOTALL)
    annotations = dict(re.findall(r'(moorage\.io/\S+): "?([^"\n]+)', block))
    assert len(annotations) == 5
    read = wishes(annotations, {})
    assert (read.network, read.pool, len(read.addresses), read.mac) == ("prod", "web", 2, "02:00:00:00:00:05")
    assert [str(address) for address in wishes(annotations, {}, "net1").addresses] == ["10.30.0.7"]


@pytest.mark.parametrize(
    ("annotations", "args"),
    [
        ({"moorage.io/ip": "10.20.0"}, {}),
        ({"moorage.io/ips": "10.20.0.12"}, {}),
        ({}, {"MAC": "01:00:5e:00:00:01"}),
    ],
)
def test_the_refusals_that_are_shown_are_those_that_are_given(
    annotations: dict[str, str], args: dict[str, str]
):
    with pytest.raises(CniError) as caught:
        wishes(annotations, args)
    assert f"\n{caught.value.msg}\n" in POD_REQUESTS


def test_the_conflists_that_are_shown_are_those_that_real_runtimes_were_given():
    shown = re.findall(r"```json\n(.*?)```", RUNTIMES, re.DOTALL)
    assert sorted(shown) == sorted(file.read_text() for file in CONF.glob("*.conflist"))


def test_each_conflist_that_is_shown_has_a_name_of_its_own_and_the_page_says_why():
    names = [json.loads(file.read_text())["name"] for file in CONF.glob("*.conflist")]
    assert len(set(names)) == len(names)
    assert "**One conf name for each runtime that shares a node.**" in RUNTIMES
    assert all(f"`{name}`" in RUNTIMES for name in names)
