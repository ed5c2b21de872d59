"""Networks: all of them, one with its nodes, pools and map; making one and taking one away."""

from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Query, Response
from pydantic import ValidationError

from console.access import permits
from console.api.jobs import Job
from console.api.networks import NetworkChanges, change_network
from console.api.problems import status_of
from console.page.browser import Visit, VisitOf, redirect, refusal
from console.page.forms import Fields, fields
from console.page.map_part import grid_about
from schemas.errors import Code, ServiceError
from schemas.network import (
    NetworkCreate,
    NetworkDelete,
    NetworkList,
    NetworkPage,
    NetworkShow,
    NetworkView,
)

router = APIRouter()
_PAGE = 100


@router.get("/networks")
async def list_networks(visit: VisitOf, after: str | None = None) -> Response:
    """All networks."""
    page = await visit.ask(NetworkList(after=after, limit=_PAGE), NetworkPage)
    return visit.page("networks.html", networks=page.networks, next=page.next, values={}, problem=None)


@router.post("/networks")
async def create_network(visit: VisitOf) -> Response:
    """Make a network, and go to where it can be watched."""
    permits.check_operator(visit.identity, "creating a network")
    form = await fields(visit.request)
    try:
        request = NetworkCreate.model_validate(_wanted(form))
        job = await _begun(visit, request)
    except (ServiceError, ValidationError) as error:
        problem = refusal(error)
        page = await visit.ask(NetworkList(limit=_PAGE), NetworkPage)
        return visit.page(
            "networks.html",
            status_of(problem.code),
            networks=page.networks,
            next=page.next,
            values=form.all(),
            problem=problem,
        )
    return redirect(visit.request, f"/networks/{request.network}?job={job}")


def _wanted(form: Fields) -> dict[str, Any]:
    driver: dict[str, Any] = {"type": form.text("driver") or "bridge"}
    for name in ("uplink", "parent", "vlan", "vni"):
        if form.text(name):
            driver[name] = form.text(name)
    subnet: dict[str, Any] = {"cidr": form.text("cidr")}
    if form.text("gateway"):
        subnet["gateway"] = form.text("gateway")
    subnets = [subnet]
    if form.text("cidr6"):
        subnets.append({"cidr": form.text("cidr6")})
    return {
        "request_id": form.text("request_id") or str(uuid4()),
        "network": form.text("network"),
        "driver": driver,
        "subnets": subnets,
        "owners": form.words("owners"),
        "keep_going": form.flag("keep_going"),
    }


async def _begun(visit: Visit, request: NetworkChanges) -> str:
    """The id of a change that is on its way or done. Raises what is said at once."""

    async def work() -> NetworkView:
        return await change_network(visit.site, visit.identity, request)

    await visit.site.jobs.run(visit.identity, request, work)
    return request.request_id


@router.get("/networks/{network}")
async def show_network(
    visit: VisitOf,
    network: str,
    within: Annotated[str | None, Query()] = None,
    at: Annotated[str | None, Query()] = None,
    job: Annotated[str | None, Query()] = None,
) -> Response:
    """One network: facts, nodes, pools, and the map of a part of it."""
    known = _job(visit, job)
    try:
        view = await visit.ask(NetworkShow(network=network), NetworkView)
    except ServiceError as error:
        if error.code == Code.NETWORK_UNKNOWN and known is not None:
            return visit.page("network_gone.html", network=network, job=known)
        raise
    about = await grid_about(visit, view, within, at)
    return visit.page("network.html", network=view, job=known, is_moving=_is_moving(view, known), **about)


def _job(visit: Visit, request_id: str | None) -> Job | None:
    if not request_id:
        return None
    try:
        return visit.site.jobs.find(visit.identity, request_id)
    except ServiceError:
        return None


def _is_moving(view: NetworkView, job: Job | None) -> bool:
    """Whether it is worth looking again each second."""
    running = job is not None and job.state == "running"
    return running or view.state in {"creating", "deleting"}


@router.post("/networks/{network}/delete")
async def delete_network(visit: VisitOf, network: str) -> Response:
    """Take a network away; refused while addresses are held, unless by force and with a reason."""
    form = await fields(visit.request)
    if form.text("confirm") != network:
        raise ServiceError(
            Code.INVALID_REQUEST, f"nothing was changed: type the network's name, {network}, to delete it"
        )
    request = NetworkDelete.model_validate(
        {
            "request_id": form.text("request_id") or str(uuid4()),
            "network": network,
            "force": form.flag("force"),
            "reason": form.text("reason") or None,
        }
    )
    job = await _begun(visit, request)
    return redirect(visit.request, f"/networks/{network}?job={job}")
