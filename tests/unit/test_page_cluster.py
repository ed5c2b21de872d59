"""An app in the cluster, from the page: made, watched and deleted, by those who may."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console.api.application import application
from console.api.guards import RateLimit
from console.cluster.access import connect
from console.cluster.app import App
from console.cluster.client import Cluster
from console.cluster.manifests import labels
from schemas.pool import PoolList, PoolPage
from tests.kubernetes_api import KubernetesApi, kubernetes_api
from tests.visitors import Visited, pool, sent

APP = {
    "network": "prod",
    "namespace": "shop",
    "name": "cart",
    "kind": "StatefulSet",
    "image": "nginx:1.29",
    "replicas": "2",
    "port": "",
}
QUERY = "network=prod&namespace=shop&name=cart&kind=StatefulSet&image=nginx%3A1.29&replicas=2"
PLACED = f"/apps/placed?{QUERY}"
KEY = ("statefulsets", "shop", "cart")


@contextmanager
def clustered(folder: Path) -> Iterator[tuple[Visited, KubernetesApi]]:
    """The page over a cluster, with the app's pool."""
    found = pool("cart", "pinned", ["10.1.0.20-10.1.0.22"], total=3, owners=["shop/cart-*"])
    web = Visited(folder, {PoolList: lambda _: PoolPage.model_validate({"pools": [found]})})
    with kubernetes_api() as api:
        cluster = Cluster(connect(api.kubeconfig(folder)), timeout_s=20)
        web.site = replace(web.site, cluster=cluster)
        web.app = application(web.site, RateLimit(1e6, 1_000_000))
        yield web, api
        cluster.close()


async def test_it_is_made_with_the_annotations_that_are_shown(tmp_path: Path):
    with clustered(tmp_path) as (web, api):
        async with web.browser("tenant", "shop") as client:
            answer = await sent(client, PLACED, "/apps/apply", **APP)
        made: Any = api.store.objects[KEY]
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/apps/placed?")
    annotations = made["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"moorage.io/network": "prod", "moorage.io/pool": "cart"}


async def test_its_pods_are_shown_as_they_are(tmp_path: Path):
    app = App("shop", "cart", "StatefulSet", "nginx:1.29", "prod", "cart", "pinned")
    with clustered(tmp_path) as (web, api):
        api.store.put(
            "pods",
            {
                "metadata": {"name": "cart-0", "namespace": "shop", "labels": labels(app)},
                "spec": {"nodeName": "node-1", "containers": [{"name": "cart", "image": "nginx:1.29"}]},
                "status": {"phase": "Running", "podIP": "10.1.0.20", "podIPs": [{"ip": "10.1.0.20"}]},
            },
        )
        async with web.browser() as client:
            shown = await client.get(f"/apps/pods?{QUERY}")
    for text in ("cart-0", "Running", "10.1.0.20", "node-1"):
        assert text in shown.text


async def test_it_is_deleted_once_its_name_was_typed(tmp_path: Path):
    with clustered(tmp_path) as (web, api):
        async with web.browser() as client:
            await sent(client, PLACED, "/apps/apply", **APP)
            refused = await sent(client, PLACED, "/apps/delete", **APP, confirm="card")
            before = [asked.verb for asked in api.asked].count("delete")
            answer = await sent(client, PLACED, "/apps/delete", **APP, confirm="cart")
            after = [asked.verb for asked in api.asked].count("delete")
    assert "nothing was changed" in refused.text
    assert (before, after, answer.status_code) == (0, 1, 303)


@pytest.mark.parametrize(
    ("role", "spaces", "namespace"), [("viewer", (), "shop"), ("tenant", ("bank",), "shop")]
)
@pytest.mark.parametrize("what", ["apply", "delete"])
async def test_who_may_not_change_it_does_not_reach_the_cluster(
    tmp_path: Path, role: Any, spaces: tuple[str, ...], namespace: str, what: str
):
    with clustered(tmp_path) as (web, api):
        async with web.browser(role, *spaces) as client:
            form = {**APP, "namespace": namespace, "confirm": "cart"}
            answer = await sent(client, "/networks", f"/apps/{what}", **form)
            watched = await client.get(f"/apps/pods?{QUERY}")
    assert (answer.status_code, watched.status_code) == (403, 403)
    assert api.asked == []


async def test_what_kubernetes_refuses_is_told_with_what_to_do(tmp_path: Path):
    with clustered(tmp_path) as (web, api):
        api.denied.add(("patch", "statefulsets"))
        async with web.browser() as client:
            answer = await sent(client, PLACED, "/apps/apply", **APP)
    assert answer.status_code == 403
    assert "statefulsets" in answer.text
    assert "patch" in answer.text


async def test_a_namespace_that_is_not_there_is_named(tmp_path: Path):
    with clustered(tmp_path) as (web, _):
        async with web.browser() as client:
            answer = await sent(client, PLACED, "/apps/apply", **{**APP, "namespace": "nowhere"})
    assert answer.status_code == 422
    assert "nowhere" in answer.text


async def test_without_a_cluster_the_page_offers_the_yaml_alone(tmp_path: Path):
    found = pool("cart", "pinned", ["10.1.0.20-10.1.0.22"], total=3, owners=["shop/cart-*"])
    web = Visited(tmp_path, {PoolList: lambda _: PoolPage.model_validate({"pools": [found]})})
    async with web.browser() as client:
        shown = await client.get(PLACED)
        answer = await sent(client, PLACED, "/apps/apply", **APP)
    assert "kind: StatefulSet" in shown.text
    assert "Create in the cluster" not in shown.text
    assert "MOORAGE_KUBECONFIG" in answer.text
