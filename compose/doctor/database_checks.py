"""The database: whether it can be reached, is this code's, gives out addresses, and what its clock says."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import Connection, Engine

from allocator import restoring, schema
from allocator.database import Database, open_engine
from allocator.store import networks
from compose.database_use import usable
from compose.doctor.site import ANSWER_S, Site
from compose.doctor.verdict import Skipped, Verdict, fail, listed, ok, warn
from schemas.errors import ServiceError
from schemas.node import NodeList, NodePage

T = TypeVar("T")

_APART_S, _FAR_APART_S = 2.0, 30.0
_KEEP_TIME = (
    "see that both machines keep time (`timedatectl timesync-status`); Moorage itself goes by the database"
)


def database(site: Site) -> Verdict:
    """Whether the database can be reached, and at which revision its schema is."""
    with _engine(site) as engine:
        try:
            newer = schema.check(engine)
        except ServiceError as error:
            return fail(error.message, "`moorage db upgrade`; allocators wait for it")
    if newer is not None:
        return warn(
            f"the schema is at revision {newer}, newer than this version's {schema.head()}",
            "update what still runs this version: the upgrade is done when all of it is",
        )
    return ok(f"schema at revision {schema.head()}")


def pause(site: Site) -> Verdict:
    """Whether new addresses are withheld because the database was restored from a backup."""
    with _engine(site) as engine:
        state = _once(engine, restoring.state)
    if not state.paused:
        return ok("new addresses are given out")
    unheard = f"; not heard since: {listed(state.unheard)}" if state.unheard else "; every node was heard"
    advice = "wait until `moorage node list` shows all nodes ready that are on, then `moorage db resume`"
    if state.witness is not None:
        found = (
            f"the database was restored and nobody said so (node {state.witness} shows it): paused in epoch "
        )
        return fail(f"{found}{state.epoch}{unheard}", advice)
    return warn(f"paused after a restore, in epoch {state.epoch}{unheard}", advice)


def clock(site: Site) -> Verdict:
    """How far this machine's clock is from the database's."""
    asked = time.time()
    told = _database_time(site)
    answered = time.time()
    away = told.timestamp()
    apart = max(asked - away, away - answered, 0.0)
    side = "ahead of" if asked > away else "behind"
    found = f"this machine is {apart:.1f} s {side} the database" if apart >= 0.1 else "as the database's"
    if apart > _FAR_APART_S:
        return fail(found, _KEEP_TIME)
    return warn(found, _KEEP_TIME) if apart > _APART_S else ok(found)


def _database_time(site: Site) -> datetime:
    if site.settings.database:
        with _engine(site) as engine:
            return _once(engine, networks.database_time).replace(tzinfo=UTC)
    told = site.asking().ask(NodeList(limit=1), NodePage).database_time
    if told is None:
        raise Skipped("the allocator is of an older version, which does not tell the time")
    return told


def _engine(site: Site) -> AbstractContextManager[Engine]:
    """The database. Raises `unavailable`, in the server's words."""
    return usable(open_engine(site.database, connect_s=int(ANSWER_S), statement_s=int(ANSWER_S)))


def _once(engine: Engine, work: Callable[[Connection], T]) -> T:
    return Database(engine).attempt(work)
