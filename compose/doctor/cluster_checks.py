"""What the allocator knows: nodes, who is attached where, networks and pools."""

import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from compose.doctor.site import Questions, Site
from compose.doctor.verdict import Verdict, counted, fail, listed, ok, warn
from schemas.address import AddressList, AddressPage, AddressView
from schemas.history import HistoryList, HistoryPage
from schemas.message import Query
from schemas.network import NetworkList, NetworkPage, NetworkView
from schemas.node import NodeList, NodePage, NodeView
from schemas.pool import PoolList, PoolPage, PoolView

_LONG = timedelta(minutes=10)
_NEARLY = 0.9
_MOST_POOLS = 500
_MOST_NODES, _MOST_NETWORKS = 3, 100
"""How many nodes that are away are looked at, and on how many networks."""
_FIRST = 5
"""How many addresses of each network are named."""


def allocator(site: Site) -> Verdict:
    """Whether an allocator answers."""
    questions, asked = site.asking(), time.monotonic()
    questions.ask(NetworkList(limit=1), NetworkPage)
    return ok(f"answers in {(time.monotonic() - asked) * 1000:.0f} ms")


def nodes(site: Site) -> Verdict:
    """Whether every node is heard from."""
    known = _nodes(site.asking())
    lost = [view for view in known if view.state == "lost"]
    if lost:
        told = [f"{view.node} lost since {_when(view.last_seen)}, {view.attached} attached" for view in lost]
        name = lost[0].node
        return warn(
            listed(told),
            f"start the node worker there; is the machine off: `moorage node fence {name} --reason TEXT`, "
            f"and for good: `moorage node remove {name}`",
        )
    fenced = [view.node for view in known if view.state == "fenced"]
    told_fenced = f", {len(fenced)} fenced" if fenced else ""
    return ok(f"{len(known) - len(fenced)} ready{told_fenced}")


def addresses(site: Site) -> Verdict:
    """Whether addresses are attached on nodes that are lost, or that nobody knows any more."""
    questions = site.asking()
    pages, all_nodes = questions.pages([NodeList()], NodePage)
    known = {view.node: view for page in pages for view in page.nodes}
    names = [view.network for view in _networks(questions)]
    away = [name for name, view in known.items() if view.state != "ready" and view.attached]
    asked: list[Query] = [
        AddressList(network=network, node=node, state="attached", limit=_FIRST)
        for node in away[:_MOST_NODES]
        for network in names[:_MOST_NETWORKS]
    ]
    found = [view for page in questions.each(asked, AddressPage) for view in page.addresses]
    gone, complete = _on_unknown_nodes(questions, names, known) if all_nodes else ([], False)
    if gone:
        name = gone[0].node
        return fail(
            listed(_told(gone)),
            f"`moorage node list` has no {name}: release each with `moorage address release`",
        )
    if found:
        attached = sum(known[name].attached for name in away)
        return warn(
            f"{counted(attached, 'pod')} on {', '.join(away)}: {listed(_told(found))}",
            f"is the machine off: `moorage node fence {away[0]} --reason TEXT`, and its owners may move",
        )
    return ok(
        "all are on nodes that are heard" if complete else "those looked at are on nodes that are heard"
    )


def _on_unknown_nodes(
    questions: Questions, names: Sequence[str], known: Collection[str]
) -> tuple[list[AddressView], bool]:
    """The addresses that are attached on none of the known nodes, and whether all were looked at."""
    queries = [AddressList(network=network, state="attached") for network in names]
    pages, complete = questions.pages(queries, AddressPage)
    return [view for page in pages for view in page.addresses if view.node not in known], complete


def _told(views: Sequence[AddressView]) -> list[str]:
    return [f"{view.address} of {view.owner} on {view.node} ({view.network})" for view in views]


def networks(site: Site) -> Verdict:
    """Whether networks are made on every node, and none is stuck."""
    questions = site.asking()
    known = _networks(questions)
    failed = [view.network for view in known if view.state == "failed"]
    if failed:
        return fail(
            f"failed: {listed(failed)}", f"`moorage network show {failed[0]}` names each node's error"
        )
    stuck = _stuck(questions, [view for view in known if view.state in ("creating", "deleting")])
    if stuck:
        name = stuck[0].network
        told = listed([f"{view.network} is {view.state} for over 10 minutes" for view in stuck])
        return warn(
            told, f"`moorage network show {name}` says which nodes it waits for; fence those that are off"
        )
    partly = [view for view in known if view.node_counts.get("error")]
    if partly:
        told = listed(
            [f"{view.network} not on {counted(view.node_counts['error'], 'node')}" for view in partly]
        )
        return warn(told, f"`moorage network show {partly[0].network}` names each node's error")
    return ok(f"{counted(len(known), 'network')}, on all nodes")


def _stuck(questions: Questions, views: Sequence[NetworkView]) -> list[NetworkView]:
    """Those that have been so for long, by the database's clock."""
    if not views:
        return []
    now = questions.ask(NodeList(limit=1), NodePage).database_time or datetime.now(UTC)
    asked: list[Query] = [HistoryList(network=view.network, newest_first=True, limit=1) for view in views]
    latest = questions.each(asked, HistoryPage)
    return [
        view for view, page in zip(views, latest, strict=True) if page.rows and now - page.rows[0].at > _LONG
    ]


def pools(site: Site) -> Verdict:
    """Whether every pool has addresses to give."""
    questions = site.asking()
    asked: list[Query] = [PoolList(network=view.network, limit=_MOST_POOLS) for view in _networks(questions)]
    known = [pool for page in questions.each(asked, PoolPage) for pool in page.pools]
    full = [pool for pool in known if pool.policy != "reserved" and pool.used >= _NEARLY * pool.total > 0]
    if full:
        first = full[0]
        return warn(
            listed([_use(pool) for pool in full]),
            f"`moorage pool resize {first.network} {first.pool} --size N`, or `moorage address list "
            f"{first.network} --pool {first.pool}` and release what nobody needs",
        )
    return ok(f"{counted(len(known), 'pool')}, none nearly exhausted")


def _use(pool: PoolView) -> str:
    return f"pool {pool.pool} of {pool.network} has {pool.used} of {pool.total} in use"


def _nodes(questions: Questions) -> list[NodeView]:
    pages, _ = questions.pages([NodeList()], NodePage)
    return [view for page in pages for view in page.nodes]


def _networks(questions: Questions) -> list[NetworkView]:
    pages, _ = questions.pages([NetworkList()], NetworkPage)
    return [view for page in pages for view in page.networks]


def _when(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
