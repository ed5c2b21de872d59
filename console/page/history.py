"""History: who held an address, when and where."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import ValidationError

from console.page.browser import Visit, VisitOf, refusal
from schemas.address import AddressShow, AddressView
from schemas.errors import Code, ServiceError
from schemas.fields import SYSTEM_NETWORK
from schemas.history import HistoryList, HistoryPage
from schemas.network import NetworkList, NetworkPage

router = APIRouter()
_PAGE = 50
_FILTERS = ("address", "owner", "node", "since", "until", "after")


@router.get("/history")
async def show_history(  # noqa: PLR0913, PLR0917  one argument for each field of the form
    visit: VisitOf,
    network: Annotated[str, Query()] = "",
    address: Annotated[str, Query()] = "",
    at: Annotated[str, Query()] = "",
    owner: Annotated[str, Query()] = "",
    node: Annotated[str, Query()] = "",
    since: Annotated[str, Query()] = "",
    until: Annotated[str, Query()] = "",
    after: Annotated[str, Query()] = "",
) -> Response:
    """Rows of history, newest first; with an address and a time, who held it then."""
    known = await visit.ask(NetworkList(limit=500), NetworkPage)
    names = [each.network for each in known.networks]
    if not visit.identity.confined:
        names.append(SYSTEM_NETWORK)
    values = {
        "network": network or (names[0] if names else ""),
        "address": address.strip(),
        "at": at,
        "owner": owner.strip(),
        "node": node.strip(),
        "since": since,
        "until": until,
        "after": after,
    }
    about: dict[str, Any] = {"names": names, "values": values, "held": None, "page": None, "problem": None}
    if values["network"]:
        try:
            about["held"] = await _held(visit, values)
            about["page"] = await visit.ask(_query(values), HistoryPage)
        except (ValidationError, ServiceError) as error:
            about["problem"] = refusal(error)
    return visit.page("history.html", **about)


def _query(values: dict[str, str]) -> HistoryList:
    """Raises pydantic's ValidationError, or `invalid_request`."""
    given: dict[str, Any] = {name: values[name] for name in _FILTERS if values[name]}
    for name in ("since", "until"):
        if name in given:
            given[name] = _time(given[name])
    if values["at"]:
        given["until"] = _time(values["at"])
    return HistoryList.model_validate(
        {"network": values["network"], "newest_first": True, "limit": _PAGE, **given}
    )


async def _held(visit: Visit, values: dict[str, str]) -> AddressView | str | None:
    """Who held the address at that time; in words where nobody did; None where that was not asked."""
    if not values["address"] or not values["at"]:
        return None
    query = AddressShow.model_validate(
        {"network": values["network"], "address": values["address"], "at": _time(values["at"])}
    )
    try:
        return await visit.ask(query, AddressView)
    except ServiceError as error:
        if error.code != Code.ADDRESS_UNKNOWN:
            raise
        return error.message


def _time(text: str) -> datetime:
    """A time as browsers send it, without a zone: UTC. Raises `invalid_request`."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ServiceError(
            Code.INVALID_REQUEST, f"{text!r} is not a time such as 2026-03-01T14:05 (UTC)"
        ) from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
