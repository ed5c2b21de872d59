"""The documentation's site: built without a warning, read without a network, and its links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from docs.making.site import OUTSIDE, translated

ROOT = Path(__file__).parent.parent.parent
DECISIONS = ROOT / "docs" / "decisions"


def build(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Build the site as `make docs` does, into a folder."""
    (words,) = re.findall(r"\$\(BIN\)/mkdocs (build [^>|\n]*)", (ROOT / "Makefile").read_text())
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", *shlex.split(words), "--site-dir", str(folder), *options],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def pages(site: Path) -> Iterator[tuple[str, str]]:
    for page in sorted(site.rglob("*.html")):
        if page.name != "404.html":
            yield page.relative_to(site).as_posix(), page.read_text(encoding="utf-8")


def test_a_page_that_is_in_no_menu_ends_the_build(tmp_path: Path):
    other = {
        "INHERIT": str(ROOT / "mkdocs.yml"),
        "docs_dir": str(ROOT / "docs"),
        "hooks": [str(ROOT / "docs" / "making" / "site.py")],
        "nav": [{"What it is": "index.md"}],
    }
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(other))
    done = build(tmp_path / "site", "--config-file", str(tmp_path / "mkdocs.yml"))
    assert done.returncode == 1
    assert "  - start.md" in (done.stdout + done.stderr).splitlines()


def test_every_link_of_the_site_leads_to_a_file_and_an_anchor_of_it(site: Path):
    anchors = {name: set(re.findall(r' id="([^"]+)"', html)) for name, html in pages(site)}
    assert len(anchors) > 40
    for name, html in pages(site):
        for to in re.findall(r'(?:href|src)="([^"]*)"', html):
            path, _, anchor = unquote(unescape(to)).partition("#")
            if "://" in path or path.startswith(("mailto:", "data:")):
                continue
            target = (site / name).parent / path if path else site / name
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{name}: {to}"
            found = target.resolve().relative_to(site.resolve()).as_posix()
            assert not anchor or anchor == "__skip" or anchor in anchors[found], f"{name}: {to}"


def test_a_page_loads_nothing_from_another_host(site: Path):
    for name, html in pages(site):
        loaded = re.findall(r'<(?:script|img|iframe|source)[^>]* src="([^"]*)"', html)
        loaded += re.findall(
            r'<link [^>]*rel="(?:stylesheet|preload|preconnect|icon)"[^>]*href="([^"]*)"', html
        )
        assert loaded
        assert [to for to in loaded if "//" in to] == [], name


def test_no_list_or_table_became_a_paragraph(site: Path):
    """The site's Markdown wants an empty line before a list; a repository view does not."""
    for name, html in pages(site):
        prose = re.sub(r"<pre.*?</pre>", "", html, flags=re.DOTALL)
        for paragraph in re.findall(r"<p>(.*?)</p>", prose, re.DOTALL):
            assert not re.search(r"^(- |\d\. |\|)", paragraph, re.MULTILINE), f"{name}: {paragraph}"


def test_no_mark_of_the_tests_is_shown(site: Path):
    assert [
        name for name, html in pages(site) if re.search(r"(<|&lt;)!-- ?(run|not run|output|file)", html)
    ] == []


def test_pages_outside_docs_are_pages_of_the_site(site: Path):
    for source, target in OUTSIDE.items():
        title = (ROOT / source).read_text().splitlines()[0].removeprefix("# ")
        assert f">{title}<" in (site / target).with_suffix(".html").read_text()


@pytest.mark.parametrize(
    ("repository", "here", "written", "becomes"),
    [
        ("README.md", "index.md", "docs/messages.md#events", "messages.md#events"),
        ("README.md", "index.md", "docs/drivers/", "drivers/README.md"),
        ("README.md", "index.md", "CONTRIBUTING.md", "contributing.md"),
        ("docs/drivers/bridge.md", "drivers/bridge.md", "../runtimes.md", "../runtimes.md"),
        ("docs/drivers/bridge.md", "drivers/bridge.md", "../../README.md", "../index.md"),
        ("docs/sizing.md", "sizing.md", "../bench/results.json", "source/bench/results.json"),
        ("docs/drivers/vlan.md", "drivers/vlan.md", "../../setup.cfg", "../source/setup.cfg"),
        ("docs/soak.md", "soak.md", "https://example.org/a", "https://example.org/a"),
        ("docs/soak.md", "soak.md", "#what-is-checked", "#what-is-checked"),
    ],
)
def test_a_link_of_the_repository_becomes_one_of_the_site(
    repository: str, here: str, written: str, becomes: str
):
    assert translated(f"see [this]({written}).\n", repository, here) == f"see [this]({becomes}).\n"


def test_what_stands_in_a_code_block_is_left_alone():
    block = "```md\n[this](docs/messages.md)\n```\n"
    assert translated(block, "README.md", "index.md") == block


def test_the_list_of_decisions_has_them_all():
    listed = (DECISIONS / "README.md").read_text()
    for page in DECISIONS.glob("0*.md"):
        number, _, title = page.read_text().splitlines()[0].removeprefix("# ").partition(". ")
        assert f"- {number}: [{title}]({page.name})" in listed
