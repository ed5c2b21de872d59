"""Who looks at pages with a real browser, and what must hold of every page."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

LIMIT_MS = 20_000
expect.set_options(timeout=LIMIT_MS)
_SERIOUS = {"serious", "critical"}


class Visitor:
    """Somebody with a browser of its own; what the browser complains of is kept."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url.rstrip("/")
        self._context = browser.new_context(**options)
        self._context.set_default_timeout(LIMIT_MS)
        self.complaints: list[str] = []
        self.page: Page = self._context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.text} ({message.location.get('url', '')})")

    def visit(self, path: str) -> Page:
        """Go there."""
        self.page.goto(path if path.startswith("http") else self.url + path)
        return self.page

    def close(self) -> None:
        """Close the browser's window."""
        self._context.close()


def violations(page: Page) -> list[str]:
    """What axe-core finds that is serious or critical: WCAG's rules, for those who do not see the page."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']} ({each['impact']}): {each['help']}: "
        + "; ".join(node["html"][:160] for node in each["nodes"][:3])
        for each in found
        if each["impact"] in _SERIOUS
    ]
