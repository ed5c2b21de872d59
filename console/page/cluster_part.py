"""An app in the cluster: made, watched, deleted. The calls wait for Kubernetes in threads of their own."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from fastapi import APIRouter, Response

from console.access import permits
from console.cluster.app import App, Workload
from console.cluster.client import Cluster
from console.page.apps import BLANK, app_of, placed_path, pool_of
from console.page.browser import Visit, VisitOf, redirect
from console.page.forms import fields
from schemas.errors import Code, ServiceError

router = APIRouter()
T = TypeVar("T")


async def _app(visit: Visit) -> App:
    """The app that a form of the page names; a tenant's is in a namespace of its own. Raises ServiceError."""
    form = await fields(visit.request)
    app = app_of({**BLANK, **form.all()})
    _check(visit, app)
    return app


def _check(visit: Visit, app: Workload) -> None:
    if visit.identity.role == "viewer":
        raise permits.forbidden(visit.identity, "changing the cluster")
    if not permits.owns(visit.identity, f"{app.namespace}/{app.name}"):
        raise permits.forbidden(visit.identity, f"apps in namespace {app.namespace}")


def _cluster(visit: Visit) -> Cluster:
    if visit.site.cluster is None:
        raise ServiceError(
            Code.NOT_PROVISIONED,
            "the console knows no cluster: set MOORAGE_KUBECONFIG, or take the YAML along",
        )
    return visit.site.cluster


async def _in_thread(call: Callable[[], T]) -> T:
    return await asyncio.to_thread(call)


@router.post("/apps/apply")
async def apply_app(visit: VisitOf) -> Response:
    """Make the workload in the cluster, or bring it in line with what is shown."""
    app, cluster = await _app(visit), _cluster(visit)
    _, room = await pool_of(visit, app)

    def apply() -> None:
        cluster.check_namespace(app.namespace)
        cluster.apply(app, room)

    await _in_thread(apply)
    return redirect(visit.request, f"{placed_path(app)}&applied=1")


@router.post("/apps/delete")
async def delete_app(visit: VisitOf) -> Response:
    """Delete the workload and its pods; its addresses are released, or kept for its owners."""
    app, cluster = await _app(visit), _cluster(visit)
    form = await fields(visit.request)
    if form.text("confirm") != app.name:
        raise ServiceError(
            Code.INVALID_REQUEST, f"nothing was changed: type the app's name, {app.name}, to delete it"
        )
    await _in_thread(lambda: cluster.delete(app))
    return redirect(visit.request, placed_path(app))


@router.get("/apps/pods")
async def show_pods(visit: VisitOf) -> Response:
    """The app's pods as Kubernetes has them now: what the page asks for every few seconds."""
    app = app_of({**BLANK, **dict(visit.request.query_params)})
    _check(visit, app)
    cluster = _cluster(visit)
    found = await _in_thread(lambda: cluster.pods(app))
    return visit.page("cluster_pods.html", app=app, pods=found, path_of=placed_path(app))
