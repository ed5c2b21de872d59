"""The whole story in a browser: a network, an app and its addresses, pods that come and go, a dead letter."""

import re
import uuid
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Locator, Page, expect

from schemas.address import AddressReserve, AddressShow, AddressView
from schemas.errors import ServiceError
from tests.acceptance.machines import until
from tests.browser.browsing import Visitor, violations
from tests.browser.conftest import Picture
from tests.browser.stage import Stage

pytestmark = [
    pytest.mark.services,
    pytest.mark.netns,
    pytest.mark.acceptance,
    pytest.mark.xdist_group("browser"),
]
NETWORK = "lab"
SHOP = "shop-front"


def cell(page: Page, address: str) -> Locator:
    return page.locator(f'[id="c{address}"]')


def state_of(stage: Stage, address: str) -> str:
    query = AddressShow.model_validate({"network": NETWORK, "address": address})
    try:
        return stage.aside(lambda: stage.machine.ask(query, AddressView)).state
    except ServiceError as error:
        return error.code


def test_the_link_that_was_printed_lets_one_browser_in_once(on_stage: Stage):
    visitor = Visitor(on_stage.browser, on_stage.console.url)
    page = visitor.visit(on_stage.console.sign_in)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Networks")
    visitor.close()
    other = Visitor(on_stage.browser, on_stage.console.url)
    page = other.visit(on_stage.console.sign_in)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert").first).to_contain_text("was used already")
    other.close()


def test_a_network_is_created_on_two_nodes_and_seen_to_become_active(operator: Visitor, picture: Picture):
    page = operator.visit("/networks")
    page.get_by_text("Create a network").click()
    page.get_by_label("Name", exact=True).fill(NETWORK)
    page.get_by_label("Subnet", exact=True).fill("10.40.0.0/24")
    page.get_by_role("button", name="Create").click()
    page.wait_for_url(f"**/networks/{NETWORK}**")
    expect(page.locator("#network-state")).to_contain_text("active")
    expect(page.locator("#network-state")).to_contain_text("2 ready")
    operator.visit("/networks")
    expect(page.get_by_role("row").filter(has_text=NETWORK)).to_contain_text("active")
    picture(page, "networks")


def test_an_app_is_placed_on_addresses_that_were_chosen_on_the_map(
    on_stage: Stage, operator: Visitor, picture: Picture
):
    page = operator.visit(f"/apps/new?network={NETWORK}")
    cell(page, "10.40.0.10").click()
    cell(page, "10.40.0.12").click(modifiers=["Shift"])
    expect(page.locator("#chosen-count")).to_have_text("3")
    page.locator('[id="c10.40.0.12"]').press(" ")
    expect(page.locator("#addresses")).to_have_value("10.40.0.10 10.40.0.11")
    page.locator('[id="c10.40.0.12"]').press(" ")
    page.get_by_label("Namespace").fill("team")
    page.get_by_label("Name", exact=True).fill(SHOP)
    page.get_by_label("Image").fill("nginx:1.29")
    page.get_by_label("Replicas").fill("2")
    picture(page, "place")
    page.get_by_role("button", name="Place it").click()
    page.wait_for_url("**/apps/placed?**")
    expect(page.locator("#yaml")).to_contain_text("kind: StatefulSet")
    expect(page.locator("#annotations")).to_contain_text(f"moorage.io/pool: {SHOP}")
    expect(page.locator("main")).to_contain_text("10.40.0.10-10.40.0.12")
    picture(page, "placed")


def test_a_name_that_is_taken_is_refused_with_what_was_typed_kept(operator: Visitor):
    page = operator.visit(f"/apps/new?network={NETWORK}")
    page.get_by_label("Namespace").fill("other")
    page.get_by_label("Name", exact=True).fill(SHOP)
    page.get_by_label("Image").fill("nginx:1.29")
    page.get_by_label("or how many").fill("4")
    page.get_by_role("button", name="Place it").click()
    expect(page.get_by_role("alert").first).to_contain_text(SHOP)
    expect(page.get_by_label("Namespace")).to_have_value("other")


def test_pods_appear_on_the_map_as_they_are_attached_and_wait_when_they_go(
    on_stage: Stage, operator: Visitor, picture: Picture
):
    page = operator.visit(f"/networks/{NETWORK}")
    expect(page.locator("#live-state")).to_have_text("live")
    first = on_stage.pod(f"team/{SHOP}-0", "node-1", NETWORK)
    second = on_stage.pod(f"team/{SHOP}-1", "node-2", NETWORK)
    first.add()
    second.add()
    for address in ("10.40.0.10", "10.40.0.11"):
        expect(cell(page, address)).to_have_class(re.compile("s-attached"))
    cell(page, "10.40.0.10").hover()
    expect(page.locator("#details")).to_contain_text(f"team/{SHOP}-0")
    expect(page.locator("#details")).to_contain_text("node-1")
    picture(page, "network")
    first.delete()
    expect(cell(page, "10.40.0.10")).to_have_class(re.compile("s-waiting"))
    first.add()
    expect(cell(page, "10.40.0.10")).to_have_class(re.compile("s-attached"))
    second.delete()


def test_history_says_who_held_an_address_at_a_time(on_stage: Stage, operator: Visitor, picture: Picture):
    now = datetime.now(UTC)
    page = operator.visit(f"/history?network={NETWORK}&address=10.40.0.10&at={now:%Y-%m-%dT%H:%M:%S}")
    expect(page.locator("main")).to_contain_text(f"team/{SHOP}-0")
    expect(page.locator("main")).to_contain_text("node-1")
    expect(page.get_by_role("row").filter(has_text="address.attached").first).to_be_visible()
    picture(page, "history")


def test_a_request_that_failed_is_mended_and_replayed_from_the_page(
    on_stage: Stage, operator: Visitor, picture: Picture
):
    lost = AddressReserve(
        request_id=uuid.uuid4().hex, network=NETWORK, owner="team/late-0", pool="late", addresses=()
    )
    on_stage.send_unanswered(lost)
    page = operator.visit("/dead")

    def listed() -> bool:
        page.reload()
        return page.get_by_role("row").filter(has_text="address.reserve").count() > 0

    until(listed)
    picture(page, "dead")
    page.get_by_role("row").filter(has_text="address.reserve").get_by_role("checkbox").check()
    page.get_by_role("button", name="Say what a replay would do").click()
    expect(page.locator("#foreseen")).to_contain_text("failing")
    late = (NETWORK, "late", ["10.40.0.50-10.40.0.59"], ["team/late-*"])
    on_stage.aside(lambda: on_stage.machine.pool(*late))
    operator.visit("/dead")
    page.get_by_role("row").filter(has_text="address.reserve").get_by_role("checkbox").check()
    page.get_by_role("button", name="Say what a replay would do").click()
    expect(page.locator("#foreseen")).to_contain_text("apply")
    page.get_by_role("row").filter(has_text="address.reserve").get_by_role("checkbox").check()
    page.get_by_role("button", name="Replay", exact=True).click()
    expect(page.locator("#outcome")).to_contain_text("1 replayed")
    until(lambda: state_of(on_stage, "10.40.0.50") == "waiting")
    operator.visit("/history?network=_system")
    expect(page.get_by_role("row").filter(has_text="dead.replayed").first).to_contain_text("ops")


def test_live_events_are_listed_as_they_happen(on_stage: Stage, operator: Visitor):
    page = operator.visit(f"/events?network={NETWORK}")
    expect(page.locator("#live-state")).to_have_text("live")
    pod = on_stage.pod(f"team/{SHOP}-1", "node-1", NETWORK)
    pod.add()
    expect(page.get_by_role("row").filter(has_text="address.attached").first).to_contain_text(
        f"team/{SHOP}-1"
    )
    pod.delete()


def test_a_large_network_is_looked_into_step_by_step(on_stage: Stage, operator: Visitor, picture: Picture):
    pool = ("wide", "web", ["10.99.7.16-10.99.7.40"], ["shop/wide-*"])
    on_stage.aside(lambda: on_stage.machine.network("wide", "10.96.0.0/12"))
    on_stage.aside(lambda: on_stage.machine.pool(*pool))
    pod = on_stage.pod("shop/wide-0", "node-1", "wide")
    pod.add()
    page = operator.visit("/networks/wide")
    picture(page, "map-wide")
    expect(page.locator("#map td")).to_have_count(256)
    page.locator("#map a[href*='10.99.']").first.click()
    expect(page.locator("#map .trail")).to_contain_text("10.99.0.0/20")
    page.get_by_label("Go to an address").fill("10.99.7.16")
    page.get_by_role("button", name="Show").click()
    expect(cell(page, "10.99.7.16")).to_be_focused()
    expect(page.locator("#details")).to_contain_text("shop/wide-0")
    page.keyboard.press("ArrowRight")
    expect(cell(page, "10.99.7.17")).to_be_focused()
    pod.delete()


PAGES = (
    "/networks",
    f"/networks/{NETWORK}",
    "/networks/wide",
    f"/networks/{NETWORK}/addresses/10.40.0.10",
    f"/apps/new?network={NETWORK}",
    f"/apps/placed?network={NETWORK}&namespace=team&name={SHOP}&kind=StatefulSet&image=nginx%3A1.29&replicas=2",
    f"/history?network={NETWORK}",
    "/nodes",
    "/nodes/node-1",
    "/dead",
    "/events",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_violation_or_a_complaint_of_the_browser(
    on_stage: Stage, operator: Visitor, scheme: str
):
    operator.page.emulate_media(color_scheme=scheme)
    operator.complaints.clear()
    found = {}
    for path in PAGES:
        page = operator.visit(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        if each := violations(page):
            found[path] = each
    operator.page.emulate_media(color_scheme="light")
    assert found == {}
    assert operator.complaints == []


def test_on_a_phone_nothing_is_wider_than_the_screen(on_stage: Stage, picture: Picture):
    phone = on_stage.visitor(
        on_stage.token("phone", "operator"), viewport={"width": 390, "height": 800}, has_touch=True
    )
    for path in PAGES:
        page = phone.visit(path)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, path
    phone.visit(f"/networks/{NETWORK}")
    picture(phone.page, "phone")
    phone.close()


def test_a_tenant_sees_its_own_and_no_more(on_stage: Stage):
    tenant = on_stage.visitor(on_stage.token("guest", "tenant", "elsewhere"))
    page = tenant.visit(f"/networks/{NETWORK}")
    expect(page.locator("main")).not_to_contain_text(SHOP)
    assert "team/" not in page.content()
    assert "node-1" not in page.content()
    for path in ("/nodes", "/dead"):
        assert tenant.visit(path).get_by_role("alert").first.is_visible()
    page = tenant.visit(f"/history?network={NETWORK}")
    assert "team/" not in page.content()
    tenant.close()


def test_an_app_is_made_in_the_cluster_and_deleted_there(on_stage: Stage, operator: Visitor):
    on_stage.cluster.store.put("namespaces", {"metadata": {"name": "team"}})
    pod = on_stage.pod(f"team/{SHOP}-1", "node-2", NETWORK)
    page = operator.visit(next(path for path in PAGES if path.startswith("/apps/placed")))
    page.get_by_role("button", name="Create in the cluster").click()
    key = ("statefulsets", "team", SHOP)
    made = until(lambda: on_stage.cluster.store.objects.get(key))
    template = made["spec"]["template"]["metadata"]
    assert template["annotations"]["moorage.io/pool"] == SHOP
    on_stage.cluster.store.put(
        "pods",
        {
            "metadata": {"name": f"{SHOP}-0", "namespace": "team", "labels": template["labels"]},
            "spec": {"nodeName": "node-1", "containers": [{"name": SHOP, "image": "nginx:1.29"}]},
            "status": {"phase": "Running", "podIP": "10.40.0.10", "podIPs": [{"ip": "10.40.0.10"}]},
        },
    )
    expect(page.locator("#app-pods")).to_contain_text(f"{SHOP}-0")
    expect(page.locator("#app-pods")).to_contain_text("10.40.0.10")
    pod.add()
    expect(cell(page, "10.40.0.11")).to_have_class(re.compile("s-attached"))
    page.get_by_text("Delete the app").click()
    page.get_by_label(f"Type its name, {SHOP}").fill(SHOP)
    page.get_by_role("button", name=f"Delete {SHOP}").click()
    until(lambda: any(asked.verb == "delete" for asked in on_stage.cluster.asked))
    pod.delete()
    row = page.locator("#app-addresses").get_by_role("row").filter(has_text="10.40.0.11")
    expect(row).to_contain_text("waiting")
    assert on_stage.cluster.violations == []


def test_while_the_broker_is_away_the_page_says_so_and_recovers_by_itself(on_stage: Stage, operator: Visitor):
    local = on_stage.machine.stack.servers.local
    assert local is not None
    page = operator.visit("/networks")
    local.rabbitmq.kill()
    try:
        operator.visit("/networks")
        expect(page.get_by_role("alert").first).to_contain_text("RabbitMQ")
    finally:
        local.rabbitmq.start()
    expect(page.get_by_role("row").filter(has_text=NETWORK)).to_be_visible(timeout=60_000)
    operator.complaints.clear()
