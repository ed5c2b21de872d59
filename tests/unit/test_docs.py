"""What the documents must not forget, and that what they show is so: commands, pictures, links."""

import json
import re
import shlex
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import pytest

from cni.errors import CniError
from cni.netconf import NetConf
from cni.wishes import ANNOTATIONS, Wishes, read_wishes
from schemas.drivers import DriverType
from schemas.errors import Code
from schemas.network import NetworkCreate, NetworkView, NodeResult
from schemas.requests import REQUESTS
from tests.console_fakes import FakeAllocator, run

DOCS = Path(__file__).parent.parent.parent / "docs"
MESSAGES = (DOCS / "messages.md").read_text()
POD_REQUESTS = (DOCS / "pod-requests.md").read_text()
RUNTIMES = (DOCS / "runtimes.md").read_text()
DRIVERS = DOCS / "drivers"
PAGES = sorted([*DOCS.parent.glob("*.md"), *DOCS.rglob("*.md")])
SVG = "{http://www.w3.org/2000/svg}"
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
    newer = {(name, str(request.VERSION)) for name, request in REQUESTS.items() if request.VERSION > 2}
    assert set(re.findall(r"`([a-z.]+)`: it has ([0-9]+)", MESSAGES)) == newer


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


@pytest.mark.parametrize("driver", get_args(DriverType))
def test_every_driver_has_a_page_that_the_index_names(driver: str):
    assert (DRIVERS / f"{driver}.md").read_text().startswith(f"# {driver}\n")
    assert f"({driver}.md)" in (DRIVERS / "README.md").read_text()


def creates(page: Path) -> list[str]:
    return re.findall(r"^(?:\$ )?(moorage network create .*)$", page.read_text(), re.MULTILINE)


def created(request: NetworkCreate) -> NetworkView:
    ready = (NodeResult(node="node-1", state="ready"),)
    definition = request.definition
    return NetworkView(network=request.network, definition=definition, state="active", version=1, nodes=ready)


@pytest.mark.parametrize(
    ("page", "command"),
    [(page.stem, command) for page in sorted(DRIVERS.glob("*.md")) for command in creates(page)],
)
def test_the_commands_that_create_networks_are_accepted(page: str, command: str):
    allocator = FakeAllocator({NetworkCreate: created})
    result = run(allocator, *shlex.split(command, comments=True)[1:])
    assert result.exit_code == 0, result.output
    (request,) = allocator.asked
    assert request.driver.type == page or (page == "vlan" and request.driver.vlan)


def test_every_driver_page_shows_how_to_create_such_a_network():
    pages = [page for page in DRIVERS.glob("*.md") if page.stem != "README"]
    assert [page.stem for page in pages if not creates(page)] == []


def targets(page: Path) -> list[str]:
    """What the links and pictures of a document lead to within the repository."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [to for to in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in to]


def anchors(page: Path) -> set[str]:
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_what_a_page_leads_to_is_there(page: Path):
    for to in targets(page):
        path, _, anchor = to.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), to
        assert not anchor or anchor in anchors(found), to


@pytest.mark.parametrize(
    "picture",
    sorted({page.parent / to for page in PAGES for to in targets(page) if to.endswith(".svg")}),
    ids=lambda picture: picture.name,
)
def test_every_picture_that_a_page_names_is_well_formed(picture: Path):
    root = ElementTree.parse(picture).getroot()  # noqa: S314  our own
    assert root.tag == f"{SVG}svg"
    if picture.parent == DRIVERS:
        assert root.findtext(f"{SVG}title")
        assert root.findtext(f"{SVG}desc")


def test_every_picture_of_a_driver_is_shown():
    shown = {page.parent / to for page in DRIVERS.glob("*.md") for to in targets(page)}
    assert set(DRIVERS.glob("*.svg")) <= shown
