"""Placing an app: network, addresses, workload; the pool is made, and the YAML is shown to take along."""

from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from fastapi import APIRouter, Response
from pydantic import ValidationError

from console.access import permits
from console.api.problems import status_of
from console.cluster.app import App
from console.cluster.manifests import annotations, manifest_yaml
from console.cluster.room import Room, room_in, surge, surge_warning
from console.page.browser import Visit, VisitOf, redirect, refusal
from console.page.forms import Fields, fields
from console.page.map_part import grid_about
from schemas.address import AddressList, AddressPage
from schemas.errors import Code, ServiceError
from schemas.network import NetworkList, NetworkPage, NetworkShow, NetworkView
from schemas.pool import AddressRange, PoolCreate, PoolList, PoolPage, PoolView

router = APIRouter()
BLANK = {
    "network": "",
    "namespace": "",
    "name": "",
    "kind": "StatefulSet",
    "image": "",
    "replicas": "2",
    "port": "",
    "addresses": "",
    "size": "",
}
_MOST_ADDRESSES = 4096
_SHOWN = 200


@router.get("/apps/new")
async def ask_for_app(visit: VisitOf, network: str = "", within: str | None = None) -> Response:
    """The form: which network, which addresses, which workload."""
    _check_places(visit)
    values = {**BLANK, "network": network}
    if visit.identity.confined:
        values["namespace"] = sorted(visit.identity.namespaces)[0]
    return await _form(visit, values, within)


def _check_places(visit: Visit) -> None:
    if PoolCreate.NAME not in permits.MAY_ASK[visit.identity.role]:
        raise permits.forbidden(visit.identity, "placing an app")


async def _form(
    visit: Visit, values: dict[str, str], within: str | None = None, problem: ServiceError | None = None
) -> Response:
    known = await visit.ask(NetworkList(limit=500), NetworkPage)
    names = [each.network for each in known.networks if each.state == "active"]
    about: dict[str, Any] = {"network": None}
    if values["network"]:
        view = await visit.ask(NetworkShow(network=values["network"], with_nodes=False), NetworkView)
        about = {"network": view, **await grid_about(visit, view, within, None)}
    status = HTTPStatus.OK if problem is None else status_of(problem.code)
    spaces = sorted(visit.identity.namespaces)
    return visit.page(
        "place.html", status, names=names, spaces=spaces, values=values, problem=problem, **about
    )


@router.post("/apps")
async def place_app(visit: VisitOf) -> Response:
    """Make the pool; then show what to paste. Nothing is made where a value cannot be used."""
    _check_places(visit)
    form = await fields(visit.request)
    values = {**BLANK, **form.all()}
    try:
        app = app_of(values)
        await visit.ask(_pool(app, form), PoolView)
    except (ServiceError, ValidationError) as error:
        return await _form(visit, values, problem=refusal(error))
    return redirect(visit.request, placed_path(app))


def app_of(values: dict[str, str]) -> App:
    """The app that a form describes. Raises `invalid_request`."""
    kind = values["kind"]
    if kind not in ("StatefulSet", "Deployment"):
        raise ServiceError(Code.INVALID_REQUEST, "kind: choose StatefulSet or Deployment", field="kind")
    return App(
        namespace=values["namespace"],
        name=values["name"],
        kind="StatefulSet" if kind == "StatefulSet" else "Deployment",
        image=values["image"],
        network=values["network"],
        pool=values["name"],
        policy="pinned" if kind == "StatefulSet" else "shared",
        replicas=_whole("replicas", values["replicas"]),
        port=_whole("port", values["port"]) if values["port"] else None,
    )


def _whole(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ServiceError(Code.INVALID_REQUEST, f"{name}: write a whole number", field=name)
    return int(text)


def _pool(app: App, form: Fields) -> PoolCreate:
    """The pool for this app alone: the addresses that were chosen, or as many as it needs."""
    wanted: dict[str, Any] = {
        "request_id": form.text("request_id") or str(uuid4()),
        "network": app.network,
        "pool": app.pool,
        "policy": app.policy,
        "owners": [app.owners],
    }
    chosen = joined(form.words("addresses"))
    if chosen:
        wanted["ranges"] = chosen
    else:
        size = form.text("size")
        wanted["size"] = _whole("size", size) if size else app.replicas + surge(app)
    return PoolCreate.model_validate(wanted)


def joined(words: list[str]) -> list[AddressRange]:
    """Addresses and ranges as few ranges, ascending. Raises `invalid_request`, or a ValidationError."""
    if len(words) > _MOST_ADDRESSES:
        raise ServiceError(
            Code.INVALID_REQUEST, f"addresses: at most {_MOST_ADDRESSES} at once; write ranges: A-B"
        )
    parts = [AddressRange.model_validate(word) for word in words]
    parts.sort(key=lambda part: (part.first.version, int(part.first)))
    found: list[AddressRange] = []
    for part in parts:
        last = found[-1] if found else None
        if last is not None and last.first.version == part.first.version:
            if int(part.first) <= int(last.last):
                raise ServiceError(Code.INVALID_REQUEST, f"addresses: {part.first} is named twice")
            if int(last.last) + 1 == int(part.first):
                found[-1] = AddressRange(first=last.first, last=part.last)
                continue
        found.append(part)
    return found


def placed_path(app: App) -> str:
    """Where an app is shown that was placed."""
    values = {
        "network": app.network,
        "namespace": app.namespace,
        "name": app.name,
        "kind": app.kind,
        "image": app.image,
        "replicas": app.replicas,
    }
    if app.port is not None:
        values["port"] = app.port
    return f"/apps/placed?{urlencode(values)}"


@router.get("/apps/placed")
async def show_placed(visit: VisitOf) -> Response:
    """The YAML and annotations of an app whose pool is there, and which addresses its pods have."""
    values = {**BLANK, **dict(visit.request.query_params)}
    app = app_of(values)
    pool, room = await pool_of(visit, app)
    listed = await visit.ask(AddressList(network=app.network, pool=app.pool, limit=_SHOWN), AddressPage)
    view = await visit.ask(NetworkShow(network=app.network, with_nodes=False), NetworkView)
    around = str(pool.ranges[0].first) if pool.ranges else None
    return visit.page(
        "placed.html",
        **await grid_about(visit, view, None, around),
        network=view,
        app=app,
        pool=pool,
        yaml=manifest_yaml(app, room),
        annotations=annotations(app),
        warning=surge_warning(app, room),
        addresses=listed.addresses,
        path_of=placed_path(app),
        can_apply=visit.site.cluster is not None,
    )


async def pool_of(visit: Visit, app: App) -> tuple[PoolView, Room]:
    """An app's pool and the room in it. Raises `pool_unknown`."""
    after: str | None = None
    while True:
        page = await visit.ask(PoolList(network=app.network, after=after, limit=500), PoolPage)
        for pool in page.pools:
            if pool.pool == app.pool:
                return pool, room_in(pool, own=await _own(visit, app))
        if page.next is None or page.next == after:
            raise permits.no_pool(app.network, app.pool)
        after = page.next


async def _own(visit: Visit, app: App) -> int:
    """How many addresses of the pool the app's own pods hold, of the family that has the most."""
    listed = await visit.ask(AddressList(network=app.network, pool=app.pool, limit=500), AddressPage)
    mine = f"{app.namespace}/{app.name}-"
    held = [row for row in listed.addresses if row.state != "free" and (row.owner or "").startswith(mine)]
    return max((sum(row.address.version == version for row in held) for version in (4, 6)), default=0)
