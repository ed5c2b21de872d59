"""Placing an app: its pool is made of what was chosen, and what to paste is shown."""

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml

from console.page.apps import joined
from schemas.errors import Code, ServiceError
from schemas.pool import PoolCreate, PoolList, PoolPage, PoolView
from tests.visitors import Visited, pool, sent

APP = {
    "network": "prod",
    "namespace": "shop",
    "name": "cart",
    "kind": "StatefulSet",
    "image": "nginx:1.29",
    "replicas": "2",
}
FORM = "/apps/new?network=prod"


def made(asked: PoolCreate) -> PoolView:
    ranges = [str(each) for each in asked.ranges] or ["10.1.0.20-10.1.0.29"]
    return PoolView.model_validate(pool(asked.pool, asked.policy, ranges, owners=asked.owners))


def with_pool(size: int, **parts: Any) -> dict[Any, Any]:
    found = pool(
        "cart", "shared", [f"10.1.0.20-10.1.0.{19 + size}"], total=size, owners=["shop/cart-*"], **parts
    )
    return {PoolCreate: made, PoolList: lambda _: PoolPage.model_validate({"pools": [found]})}


async def test_chosen_addresses_become_a_pinned_pool_of_the_apps_own_pods(tmp_path: Path):
    web = Visited(tmp_path, with_pool(3))
    async with web.browser() as client:
        answer = await sent(client, FORM, "/apps", **APP, addresses="10.1.0.21 10.1.0.20, 10.1.0.40")
        shown = await client.get(answer.headers["Location"])
    (asked,) = web.asked_of(PoolCreate)
    assert (asked.network, asked.pool, asked.policy, asked.actor) == ("prod", "cart", "pinned", "a-operator")
    assert asked.owners == ("shop/cart-*",)
    assert [str(each) for each in asked.ranges] == ["10.1.0.20-10.1.0.21", "10.1.0.40"]
    assert asked.size is None
    assert shown.status_code == 200


@pytest.mark.parametrize(
    ("form", "size"),
    [
        ({"kind": "StatefulSet", "replicas": "3"}, 3),
        ({"kind": "Deployment", "replicas": "8"}, 10),  # a rolling update starts two more
        ({"kind": "Deployment", "replicas": "8", "size": "8"}, 8),
    ],
)
async def test_a_count_is_enough(tmp_path: Path, form: dict[str, str], size: int):
    web = Visited(tmp_path, with_pool(size))
    async with web.browser() as client:
        await sent(client, FORM, "/apps", **{**APP, **form})
    (asked,) = web.asked_of(PoolCreate)
    assert (asked.size, asked.ranges) == (size, ())
    assert asked.policy == ("pinned" if form["kind"] == "StatefulSet" else "shared")


async def test_yaml_and_annotations_are_there_to_copy(tmp_path: Path):
    web = Visited(tmp_path, with_pool(10))
    async with web.browser() as client:
        answer = await sent(client, FORM, "/apps", **{**APP, "kind": "Deployment"}, size="10")
        page = await client.get(answer.headers["Location"])
    shown = re.search(r'<pre[^>]*id="yaml"[^>]*>(.*?)</pre>', page.text, re.S)
    assert shown is not None
    workload = yaml.safe_load(unescape(shown[1]))
    assert workload["kind"] == "Deployment"
    annotations = workload["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"moorage.io/network": "prod", "moorage.io/pool": "cart"}
    assert 'data-copy="#yaml"' in page.text
    assert 'data-copy="#annotations"' in page.text
    assert "maxSurge" not in page.text


async def test_a_rolling_update_without_room_is_warned_of(tmp_path: Path):
    web = Visited(tmp_path, with_pool(8))
    form = {**APP, "kind": "Deployment", "replicas": "8", "size": "8"}
    async with web.browser() as client:
        answer = await sent(client, FORM, "/apps", **form)
        page = await client.get(answer.headers["Location"])
    assert "A rolling update starts 2 pods before old ones are gone" in page.text
    assert "maxSurge: 0" in page.text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": "Cart"}, "name"),
        ({"namespace": ""}, "namespace"),
        ({"image": "https://nginx"}, "image"),
        ({"replicas": "0"}, "replicas"),
        ({"replicas": "many"}, "replicas"),
        ({"kind": "Job"}, "kind"),
        ({"size": "x"}, "size"),
        ({"port": "99999"}, "port"),
        ({"addresses": "10.1.0.7 10.1.0.7"}, "named twice"),
        ({"addresses": "10.1.0"}, "10.1.0"),
        ({"addresses": "10.1.0.9-10.1.0.7"}, "lower to a higher"),
    ],
)
async def test_what_cannot_be_is_said_and_what_was_typed_is_kept(
    tmp_path: Path, wrong: dict[str, str], said: str
):
    web = Visited(tmp_path)
    async with web.browser() as client:
        answer = await sent(client, FORM, "/apps", **{**APP, **wrong})
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    assert said in answer.text
    assert "cart" in answer.text or "Cart" in answer.text
    assert web.asked_of(PoolCreate) == []


async def test_addresses_that_somebody_holds_are_named_and_the_choice_is_kept(tmp_path: Path):
    held = [{"address": "10.1.0.7", "owner": "shop/web-0", "state": "attached"}]
    refusal = ServiceError(Code.RANGE_IN_USE, "these are in use", holders=held)
    web = Visited(tmp_path, {PoolCreate: lambda _: refusal})
    async with web.browser() as client:
        answer = await sent(client, FORM, "/apps", **APP, addresses="10.1.0.7-10.1.0.9")
    assert "these are in use" in answer.text
    assert "shop/web-0" in answer.text
    assert "10.1.0.7-10.1.0.9</textarea>" in answer.text


async def test_a_tenant_places_apps_in_its_own_namespaces_alone(tmp_path: Path):
    web = Visited(tmp_path, with_pool(3))
    async with web.browser("tenant", "shop") as client:
        page = await client.get(FORM)
        own = await sent(client, FORM, "/apps", **APP, size="3")
        others = await sent(client, FORM, "/apps", **{**APP, "namespace": "bank"}, size="3")
    assert "<option selected>shop</option>" in page.text
    assert own.status_code == 303
    assert "own namespaces" in others.text
    assert [asked.owners for asked in web.asked_of(PoolCreate)] == [("shop/cart-*",)]


async def test_a_viewer_places_none(tmp_path: Path):
    web = Visited(tmp_path, with_pool(3))
    async with web.browser("viewer") as client:
        front = await client.get("/networks/prod")
        answer = await sent(client, "/networks", "/apps", **APP, size="3")
    assert "/apps/new" not in front.text
    assert answer.status_code == 403
    assert web.asked_of(PoolCreate) == []


async def test_without_a_cluster_the_page_offers_yaml_alone(tmp_path: Path):
    web = Visited(tmp_path, with_pool(3))
    async with web.browser() as client:
        page = await client.get("/apps/placed", params=APP)
        answer = await sent(client, "/networks", "/apps/apply", **APP)
    assert "/apps/apply" not in page.text
    assert answer.status_code == 503


def test_addresses_are_joined_to_as_few_ranges_as_there_are():
    words = ["10.0.0.3", "10.0.0.1", "fd00::2", "10.0.0.2", "10.0.0.8-10.0.0.9", "fd00::3", "10.0.0.16/30"]
    assert [str(each) for each in joined(words)] == [
        "10.0.0.1-10.0.0.3",
        "10.0.0.8-10.0.0.9",
        "10.0.0.16-10.0.0.19",
        "fd00::2-fd00::3",
    ]
