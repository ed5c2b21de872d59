"""The manifests of apps, and whether a pool has room for them."""

import re
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
import yaml

from cni.netconf import NetConf
from cni.wishes import ANNOTATIONS, read_wishes
from console.cluster.app import LONGEST_NAME, App
from console.cluster.manifests import IP_ANNOTATION, annotations, manifest, manifest_yaml, selector
from console.cluster.room import Room, is_tight, room_in, surge_warning
from schemas.errors import Code, ServiceError
from schemas.owners import matches
from schemas.pool import PoolCreate, PoolView
from tests.kubernetes_rules import complain
from tests.unit.test_docs_commands import parse, words

WEB = App("shop", "web", "StatefulSet", "nginx:1.29", "prod", "web", "pinned", replicas=3, port=8080)
API = App("shop", "api", "Deployment", "registry.example.com:5000/team/api:2", "prod", "api", "shared", 4)
CHOSEN = tuple(ip_address(text) for text in ("10.0.0.5", "10.0.0.7", "10.0.0.6", "10.0.0.9"))
DEFINITION = "io.k8s.api.apps.v1."


@pytest.mark.parametrize(
    "app",
    [WEB, API, replace(WEB, policy="shared"), replace(API, addresses=CHOSEN), replace(WEB, port=None)],
)
@pytest.mark.parametrize("room", [None, Room(4), Room(100)])
def test_a_manifest_is_what_kubernetes_openapi_describes(app: App, room: Room | None):
    assert complain(DEFINITION + app.kind, manifest(app, room)) == []
    assert yaml.safe_load(manifest_yaml(app, room)) == manifest(app, room)


def test_a_stateful_set_of_a_pinned_pool_reads_so():
    assert manifest_yaml(WEB) == (
        "# StatefulSet web with addresses of pool web in network prod.\n"
        "# Each pod keeps its address when it is replaced or moves to another node.\n"
        "# Network and pool must allow the owners shop/web-*\n"
        "# serviceName names the headless Service web, if there is one: for DNS names alone.\n"
        "apiVersion: apps/v1\n"
        "kind: StatefulSet\n"
        "metadata:\n"
        "  name: web\n"
        "  namespace: shop\n"
        "  labels:\n"
        "    app.kubernetes.io/name: web\n"
        "    app.kubernetes.io/managed-by: moorage\n"
        "spec:\n"
        "  replicas: 3\n"
        "  serviceName: web\n"
        "  selector:\n"
        "    matchLabels:\n"
        "      app.kubernetes.io/name: web\n"
        "      app.kubernetes.io/managed-by: moorage\n"
        "  template:\n"
        "    metadata:\n"
        "      labels:\n"
        "        app.kubernetes.io/name: web\n"
        "        app.kubernetes.io/managed-by: moorage\n"
        "      annotations:\n"
        "        moorage.io/network: prod\n"
        "        moorage.io/pool: web\n"
        "    spec:\n"
        "      containers:\n"
        "      - name: web\n"
        "        image: nginx:1.29\n"
        "        ports:\n"
        "        - containerPort: 8080\n"
    )


@pytest.mark.parametrize(
    "name", ["1e3", "007", "0x1f", "0o7", "12", "y", "n", "on", "yes", "null", "1-2", "e1"]
)
def test_a_name_that_looks_like_something_else_stays_text_in_yaml(name: str):
    app = replace(API, namespace=name, name=name, network=name, pool=name)
    text = manifest_yaml(app)
    assert yaml.safe_load(text) == manifest(app)
    plain = re.findall(r"(?m)^ +moorage\.io/pool: ([^\"'\n]+)$", text)
    assert plain == (["e1"] if name == "e1" else [])  # other readers than PyYAML take more for numbers


def wishes(found: Mapping[str, Any]) -> Any:
    passed = found["spec"]["template"]["metadata"]["annotations"]
    conf = NetConf(
        cniVersion="1.1.0", name="pods", type="moorage", network="other", runtimeConfig={ANNOTATIONS: passed}
    )
    return read_wishes(conf, {}, "eth0")


def test_the_annotations_are_those_that_pods_ask_with():
    wished = wishes(manifest(replace(API, addresses=CHOSEN)))
    assert (wished.network, wished.pool, wished.addresses) == ("prod", "api", CHOSEN)


def test_pods_of_a_pinned_pool_name_no_address_but_have_theirs_reserved():
    app = replace(WEB, replicas=2, addresses=(*CHOSEN[:3], ip_address("fd00::5")))
    assert IP_ANNOTATION not in annotations(app)
    assert app.reservations == (
        ("shop/web-0", (CHOSEN[0], ip_address("fd00::5"))),
        ("shop/web-1", (CHOSEN[1],)),
    )
    assert replace(API, addresses=CHOSEN).reservations == ()


def test_the_owners_are_the_apps_pods():
    pool = PoolCreate(
        request_id="a", network="prod", pool="web", policy="pinned", size=3, owners=(WEB.owners,)
    )
    assert matches(pool.owners[0], "shop/web-0")
    assert not matches(pool.owners[0], "shop/webshop-0")
    assert selector(WEB) == "app.kubernetes.io/name=web,app.kubernetes.io/managed-by=moorage"


@pytest.mark.parametrize(
    ("field", "value", "advice"),
    [
        ("namespace", "Shop", "RFC 1123"),
        ("namespace", "", "RFC 1123"),
        ("namespace", "a" * 64, "1 to 63"),
        ("name", "a.b", "RFC 1123"),
        ("name", "-web", "RFC 1123"),
        ("name", "web\n", "RFC 1123"),
        ("name", "a" * (LONGEST_NAME + 1), f"1 to {LONGEST_NAME}"),
        ("network", "a/b", "RFC 1123"),
        ("pool", "..", "RFC 1123"),
        ("kind", "DaemonSet", "StatefulSet or Deployment"),
        ("policy", "reserved", "pinned or shared"),
        ("image", "", "nginx:1.29"),
        ("image", "https://registry.example.com/web", "without https://"),
        ("image", "Nginx", "lower case"),
        ("image", "nginx latest", "nginx:1.29"),
        ("image", "nginx:", "nginx:1.29"),
        ("image", "nginx@sha256:12", "nginx:1.29"),
        ("image", "a/" * 130 + "b", "255"),
        ("replicas", 0, "1 to 1000"),
        ("replicas", 1001, "1 to 1000"),
        ("replicas", True, "1 to 1000"),
        ("port", 0, "1 to 65535"),
        ("port", 65536, "1 to 65535"),
        ("addresses", (CHOSEN[0], CHOSEN[0]), "once"),
    ],
)
def test_what_no_app_can_have_is_refused_with_what_to_write(field: str, value: object, advice: str):
    with pytest.raises(ServiceError) as caught:
        replace(WEB, **{field: value})
    assert caught.value.code == Code.INVALID_REQUEST
    assert caught.value.fields == {"field": field}
    assert advice in caught.value.message


@pytest.mark.parametrize(
    "image",
    [
        "nginx",
        "nginx:1.29",
        "library/nginx",
        "localhost:5000/a__b/c-d.e:v1_2",
        "registry.example.com/team/web@sha256:" + "0a" * 32,
        "[fd00::1]:5000/web:1@sha256:" + "0a" * 32,
    ],
)
def test_image_references_are_read(image: str):
    assert replace(WEB, image=image).image == image


def test_a_deployment_does_not_take_a_pinned_pool():
    with pytest.raises(ServiceError, match="take a shared pool"):
        replace(API, policy="pinned")


def test_chosen_addresses_must_do_for_all_pods_of_a_shared_pool():
    with pytest.raises(ServiceError, match="choose 2 more, or make it 2 replicas"):
        replace(API, addresses=CHOSEN[:2])
    many = tuple(ip_address("10.0.0.0") + number for number in range(65))
    with pytest.raises(ServiceError, match="make a pool of just these"):
        replace(API, addresses=many)
    assert len(replace(WEB, addresses=many).addresses) == 65


def warned(app: App, room: Room) -> str:
    """The warning; the commands that it names can be given."""
    text = surge_warning(app, room) or ""
    for command in re.findall(r"`(moorage [^`]*)`", text):
        parse(words(command.replace("CIDR", "10.9.0.0/24")))
    return text


@pytest.mark.parametrize(("replicas", "surge"), [(1, 1), (3, 1), (4, 1), (5, 2), (8, 2), (9, 3), (100, 25)])
def test_a_rolling_update_of_a_deployment_needs_a_quarter_more_rounded_up(replicas: int, surge: int):
    app = replace(API, replicas=replicas)
    assert not is_tight(app, Room(replicas + surge))
    assert warned(app, Room(replicas + surge)) == ""
    assert is_tight(app, Room(replicas + surge - 1))
    text = warned(app, Room(replicas + surge - 1))
    assert f"needs {replicas + surge} addresses" in text
    assert f"`moorage pool resize prod api --size {replicas + surge}`" in text


def test_a_deployment_of_a_tight_pool_goes_without_surge():
    spec = manifest(API, Room(4))["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert "strategy" not in manifest(API, Room(5))["spec"]


def test_a_stateful_set_needs_no_more_than_its_replicas():
    assert warned(WEB, Room(3)) == ""
    assert "strategy" not in manifest(WEB, Room(3))["spec"]
    assert "1 would wait" in warned(WEB, Room(2))


def test_what_others_hold_does_not_count_and_what_the_apps_own_pods_hold_does():
    assert "4 pods need 4 addresses" in warned(API, Room(10, used=8))
    assert "`moorage pool resize prod api --size 12`" in warned(API, Room(10, used=8))
    assert warned(API, Room(10, used=8, own=4)) == ""


def test_cooldown_matters_where_a_pool_is_not_restricted_to_owners():
    assert "rests for 120 s" in warned(API, Room(8, cooldown_s=120))
    assert "--owner 'shop/api-*'" in warned(API, Room(8, cooldown_s=120))
    assert warned(API, Room(9, cooldown_s=120)) == ""
    assert "rests for 120 s" in warned(API, Room(4, cooldown_s=120))
    assert warned(WEB, Room(3, cooldown_s=120)) == ""


def test_the_default_pool_is_made_larger_by_a_subnet():
    app = replace(API, pool="default")
    assert "--add-subnet" in warned(app, Room(4))
    assert "moorage pool create prod api" in warned(app, Room(5, cooldown_s=120))


def pool(**changes: Any) -> PoolView:
    about = {
        "network": "prod",
        "pool": "api",
        "policy": "shared",
        "ranges": ("10.0.0.5-10.0.0.8", "10.0.0.20"),
        "range_count": 2,
        "total": 5,
        "used": 3,
        "cooldown_s": 60,
    }
    return PoolView.model_validate({**about, **changes})


def test_the_room_of_a_pool_is_that_of_its_smaller_family():
    assert room_in(pool()) == Room(total=5, used=3, cooldown_s=60)
    assert room_in(pool(owners=("shop/api-*",)), own=2) == Room(total=5, used=3, own=2)
    dual = pool(ranges=("10.0.0.5-10.0.0.8", "fd00::/64"), total=4 + 2**64, used=6)
    assert room_in(dual) == Room(total=4, used=3, cooldown_s=60)
    assert room_in(pool(range_count=300, total=1000)).total == 1000
