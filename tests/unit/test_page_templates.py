"""What every page has and none may have: looked up in the templates, and on each page for each role."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from console.access.identity import Role
from schemas.address import AddressList, AddressMap, AddressMapPage, AddressPage, AddressShow
from schemas.errors import Code, ServiceError
from schemas.history import HistoryList, HistoryPage
from schemas.network import NetworkList, NetworkPage
from schemas.node import NodeList, NodePage
from schemas.pool import PoolList, PoolPage
from tests.letters import letter
from tests.visitors import Visited

PAGE = Path(__file__).parents[2] / "console" / "page"
PLACED = "/apps/placed?network=prod&namespace=shop&name=web&kind=StatefulSet&image=nginx&replicas=2"
EVERYBODYS = [
    "/networks",
    "/networks/prod",
    "/networks/prod?at=10.1.0.7",
    "/networks/prod/addresses/10.1.0.7",
    "/apps/new",
    "/apps/new?network=prod",
    PLACED,
    "/history",
    "/history?network=prod&address=10.1.0.7&at=2026-03-01T14:05",
    "/events",
]
NOT_TENANTS = ["/nodes", "/nodes/node-1", "/dead", "/dead/000001-letter"]
ROLES: list[Role] = ["viewer", "tenant", "operator"]
VOID = {"meta", "link", "input", "br", "hr", "img"}


def sources(pattern: str) -> list[Path]:
    found = sorted(PAGE.glob(pattern))
    assert found
    return found


@pytest.mark.parametrize("template", sources("templates/*.html"), ids=lambda path: path.name)
def test_templates_have_nothing_that_the_content_policy_forbids(template: Path):
    text = template.read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|hx-on|hx-vals=['\"]js:", text, re.I)
    assert not re.findall(r"<script(?! src=)[^>]*>", text)
    assert not re.findall(r"<script[^>]*>[^<]+", text)
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", text)  # it works without internet


@pytest.mark.parametrize("template", sources("templates/*.html"), ids=lambda path: path.name)
def test_no_template_switches_escaping_off(template: Path):
    assert not re.search(r"\|\s*safe|autoescape|Markup", template.read_text())


@pytest.mark.parametrize("script", sources("static/*.js"), ids=lambda path: path.name)
def test_our_scripts_make_no_html_of_text(script: Path):
    if script.name == "htmx.min.js":
        return
    assert not re.search(
        r"innerHTML|outerHTML\s*=|insertAdjacentHTML|document\.write|\beval\b|new Function",
        script.read_text(),
    )


class Structure(HTMLParser):
    """What screen readers go by: headings, landmarks, labels, ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.labelled: set[str] = set()
        self.unlabelled: list[dict[str, str | None]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag == "label" and given.get("for"):
            self.labelled.add(str(given["for"]))
        is_field = tag in {"input", "select", "textarea"} and given.get("type") not in {"hidden", "submit"}
        if is_field and "label" not in self.open and not given.get("aria-label"):
            self.unlabelled.append(given)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [given for name, given in self.tags if name == tag]


def check_structure(text: str) -> None:
    found = Structure(text)
    assert found.open == []
    assert len(found.all("h1")) == 1
    assert len(found.all("main")) == 1
    assert found.all("html") == [{"lang": "en"}]
    assert re.search(r"<title>[^<]+ · Moorage</title>", text)
    assert 'class="skip" href="#main"' in text
    ids = [given["id"] for _, given in found.tags if "id" in given]
    assert len(ids) == len(set(ids))
    assert [given for given in found.unlabelled if given.get("id") not in found.labelled] == []
    for form in found.all("form"):
        if form.get("method") == "post":
            assert "csrf" in text
    for table in found.all("th"):
        assert table.get("scope") in {"col", "row"}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("path", EVERYBODYS + NOT_TENANTS)
async def test_each_page_is_well_formed_titled_and_labelled(tmp_path: Path, role: Role, path: str):
    web = Visited(tmp_path, letters=[letter(1), letter(2)])
    async with web.browser(role, *(["shop"] if role == "tenant" else [])) as client:
        answer = await client.get(path)
    refused = role == "tenant" and path in NOT_TENANTS
    refused |= role == "viewer" and path.startswith("/apps/new")
    assert answer.status_code == (403 if refused else 200)
    check_structure(answer.text)
    assert f"a-{role}" in answer.text


EMPTY = {
    NetworkList: lambda _: NetworkPage(networks=()),
    NodeList: lambda _: NodePage(nodes=()),
    PoolList: lambda _: PoolPage(pools=()),
    AddressMap: lambda _: AddressMapPage(runs=()),
    AddressList: lambda _: AddressPage(addresses=()),
    AddressShow: lambda _: ServiceError(Code.ADDRESS_UNKNOWN, "it was never used"),
    HistoryList: lambda _: HistoryPage(rows=()),
}


@pytest.mark.parametrize("path", [path for path in EVERYBODYS + NOT_TENANTS[::2] if path != PLACED])
async def test_each_page_says_what_there_is_where_there_is_nothing(tmp_path: Path, path: str):
    web = Visited(tmp_path, EMPTY)  # type: ignore[arg-type]
    async with web.browser() as client:
        answer = await client.get(path)
    assert answer.status_code == 200
    check_structure(answer.text)


@pytest.mark.parametrize("path", EVERYBODYS + NOT_TENANTS)
async def test_no_page_is_heavy(tmp_path: Path, path: str):
    web = Visited(tmp_path, letters=[letter(1)])
    async with web.browser() as client:
        answer = await client.get(path)
    assert len(answer.content) < 60_000


@pytest.mark.parametrize(
    "path", ["/networks", "/networks/prod", "/history", "/nodes", "/apps/new", "/events"]
)
async def test_while_the_broker_is_away_a_page_says_so_and_looks_again_by_itself(tmp_path: Path, path: str):
    away = ServiceError(Code.UNAVAILABLE, "RabbitMQ is away: start it")
    web = Visited(tmp_path, dict.fromkeys(Visited(tmp_path).allocator.answers, lambda _: away))
    async with web.browser() as client:
        answer = await client.get(path)
    assert answer.status_code == 503
    check_structure(answer.text)
    assert "RabbitMQ is away: start it" in answer.text
    assert 'role="alert"' in answer.text
    assert f'hx-get="{path}"' in answer.text
    assert 'hx-trigger="every 2s"' in answer.text
    assert 'href="/networks"' in answer.text


async def test_what_will_not_mend_itself_is_not_asked_for_again(tmp_path: Path):
    web = Visited(tmp_path, {NetworkList: lambda _: ServiceError(Code.INTERNAL, "a bug")})
    async with web.browser() as client:
        answer = await client.get("/networks")
    assert answer.status_code == 502
    assert "hx-get" not in answer.text


async def test_a_bug_is_a_page_that_says_so(tmp_path: Path):
    def fails(_: object) -> None:
        raise ZeroDivisionError

    web = Visited(tmp_path, {NetworkList: fails})  # type: ignore[dict-item]
    async with web.browser() as client:
        answer = await client.get("/networks")
    assert answer.status_code == 500
    check_structure(answer.text)
    assert "ZeroDivisionError" not in answer.text


async def test_what_is_not_there_is_a_page_too(tmp_path: Path):
    web = Visited(tmp_path)
    async with web.browser() as client:
        for path in ("/nope", "/static/nope.js", "/static/../pages.py", "/networks/prod/nope"):
            answer = await client.get(path)
            assert answer.status_code == 404
            check_structure(answer.text)
        wrong = await client.put("/networks")
    assert wrong.status_code == 405


async def test_static_files_are_asked_for_anew_but_sent_once(tmp_path: Path):
    web = Visited(tmp_path)
    async with web.client() as client:
        first = await client.get("/static/style.css")
        again = await client.get("/static/style.css", headers={"If-None-Match": first.headers["ETag"]})
    assert first.headers["Cache-Control"] == "no-cache"
    assert again.status_code == 304
