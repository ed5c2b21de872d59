"""The console's address map of a /16 with 50,000 attached addresses, from the request to what is painted."""

import secrets
import statistics
import time

from playwright.sync_api import Page

from bench.browser import chromium
from bench.filled_map import NETWORK, WITHIN, fill
from bench.machine import Machine, Size
from bench.results import Figure

_TIMES = 9
_SETTLE_S = 120
_PAINTED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
FIGURES = (
    Figure("map_16_ms", "map of a /16 with 50,000 addresses attached, request to painted, ms", at_most=1000),
    Figure("map_drill_ms", "one of its /24s, click to painted, ms", at_most=300),
)


def run(machine: Machine) -> dict[str, float]:
    """The medians of some looks, in a real browser."""
    rows = 5_000 if machine.size is Size.QUICK else 50_000
    url = machine.database("map")
    fill(url, rows, machine.tell)
    machine.services.mariadb.settle(_SETTLE_S)
    place, one_time = machine.place("map"), secrets.token_urlsafe(32)
    with (
        machine.allocator(place, url),
        machine.console(place, one_time) as console,
        chromium() as browser,
    ):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{console}/sign-in/{one_time}")
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/networks")
        shown = [_whole(page, console) for _ in range(_TIMES)]
        drilled = [_part(page, console, number) for number in range(_TIMES)]
    machine.tell(f"slowest: {max(shown):.0f} and {max(drilled):.0f} ms")
    return {"map_16_ms": statistics.median(shown), "map_drill_ms": statistics.median(drilled)}


def _whole(page: Page, console: str) -> float:
    begun = time.perf_counter()
    page.goto(f"{console}/networks/{NETWORK}", wait_until="commit")
    page.wait_for_function("() => document.querySelectorAll('#map td.s-tile').length === 256")
    page.evaluate(_PAINTED)
    return (time.perf_counter() - begun) * 1000


def _part(page: Page, console: str, number: int) -> float:
    page.goto(f"{console}/networks/{NETWORK}")
    part = list(WITHIN.subnets(new_prefix=24))[20 + number * 7]
    link = page.locator(f'[id="c{part}"]')
    link.wait_for()
    begun = time.perf_counter()
    link.click()
    page.wait_for_function(
        "name => document.querySelector(`[id='c${name}']`) !== null", arg=str(part.network_address + 9)
    )
    page.evaluate(_PAINTED)
    return (time.perf_counter() - begun) * 1000
