"""The site's hook for MkDocs: pages that lie outside docs/, and links as a view of the repository has them.

Links in the documents are made for a plain view of the repository: `docs/messages.md` in README.md,
`drivers/` in a page of docs/. The site has the same pages, with README.md as its first, so each link leads to
the page that its file became. A file that is no page, such as bench/results.json, becomes part of the site as
it is: its link then leads to what it was when the site was built. No address of a repository is made up.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent.parent
OUTSIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages outside docs/, by their path in the repository, and what they are in the site."""

_SOURCES = "source"
_FENCE = re.compile(r"^(```.*?^```[ ]*$)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_MARK = re.compile(r"^ *<!-- (?:run|output|file|not run): .*?-->\n", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and files that lie outside docs/."""
    for source, target in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, target, content=text))
    for path in sorted(_linked_sources()):
        files.append(File.generated(config, f"{_SOURCES}/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A page's text with the site's links and without the marks that its tests read."""
    here = page.file.src_uri
    repository = next((source for source, target in OUTSIDE.items() if target == here), f"docs/{here}")
    return translated(_MARK.sub("", markdown), repository, here)


def translated(text: str, repository: str, here: str) -> str:
    """The text of the file `repository` with its links as they are from the page `here`."""

    def led(match: re.Match[str]) -> str:
        return match[1] + _site_link(match[2], repository, here) + match[3]

    parts = _FENCE.split(text)
    parts[::2] = [_LINK.sub(led, prose) for prose in parts[::2]]
    return "".join(parts)


def _site_link(to: str, repository: str, here: str) -> str:
    path, sign, anchor = to.partition("#")
    if "://" in to or not path:
        return to
    target = posixpath.normpath(posixpath.join(posixpath.dirname(repository), path))
    return posixpath.relpath(_in_site(target), posixpath.dirname(here) or ".") + sign + anchor


def _in_site(path: str) -> str:
    """Where the site has that path of the repository."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    if path.startswith("docs/"):
        inside = path.removeprefix("docs/")
        return f"{inside}/README.md" if (ROOT / path).is_dir() else inside
    return f"{_SOURCES}/{path}"


def _linked_sources() -> set[str]:
    """Files outside docs/ that are no pages and that some page leads to."""
    found = set()
    pages = [ROOT / source for source in OUTSIDE] + sorted((ROOT / "docs").rglob("*.md"))
    for page in pages:
        prose = "".join(_FENCE.split(page.read_text(encoding="utf-8"))[::2])
        for _, to, _ in _LINK.findall(prose):
            path = to.partition("#")[0]
            if "://" in to or not path:
                continue
            target = (page.parent / path).resolve()
            if target.is_relative_to(ROOT / "docs") or target.relative_to(ROOT).as_posix() in OUTSIDE:
                continue
            found.add(target.relative_to(ROOT).as_posix())
    return found
