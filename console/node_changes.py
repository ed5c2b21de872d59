"""`moorage node fence|remove`."""

from typing import Annotated
from uuid import UUID, uuid4

import typer
from rich.console import Console

from console.changes import ActorOption, YesOption, confirm, has_to_ask
from console.output import OutputOption, cell_text, draw_facts, say, show
from console.session import EXIT_CODES, RequestIdOption, Session, asking
from schemas.errors import Code, ServiceError
from schemas.message import Done
from schemas.node import NodeFence, NodeFenced, NodeList, NodePage, NodeRemove, NodeView

_Node = Annotated[str, typer.Argument(metavar="NODE", help="the node's name")]
_Reason = Annotated[str, typer.Option(metavar="TEXT", help="why; history keeps it")]
_SessionId = Annotated[
    str | None,
    typer.Option(
        metavar="UUID", help="the life of the node that is meant (default: the present one, as it is listed)"
    ),
]


def register(group: typer.Typer) -> None:
    """Add the commands to `group`."""
    group.command("fence", epilog=EXIT_CODES)(fence)
    group.command("remove", epilog=EXIT_CODES)(remove)


def fence(
    ctx: typer.Context,
    node: _Node,
    reason: _Reason,
    session: _SessionId = None,
    yes: YesOption = False,
    actor: ActorOption = None,
    request_id: RequestIdOption = None,
    output: OutputOption = "table",
) -> None:
    """Declare that a node is off: all that is attached there ends, and its owners may come up elsewhere.

    Nothing checks that it is off. Cut its power or its network first: its pods would otherwise go on using
    addresses that others get. A node that came back since, under another session, is left alone.
    """
    attempt = request_id or str(uuid4())
    with asking(ctx, output, request_id=attempt) as asker:
        must_ask = has_to_ask(yes)
        view = _present(asker, node)
        meant = session or view.session
        request = NodeFence(request_id=attempt, actor=actor, node=node, session=meant, reason=reason)
        if session is None:
            asker.repeating += ["--session", str(view.session)]
        _warn(view, request.session)
        if must_ask:
            confirm(f"Is {node} off, and shall it be fenced?")
        answer = asker.ask(request, NodeFenced)
        show(answer, output, _draw_fenced)
        if not answer.fenced:
            say(
                f"Nothing was changed: {node} has come back under another session. `moorage node list` "
                "shows which.",
                style="red",
            )
            raise typer.Exit(1)


def remove(
    ctx: typer.Context,
    node: _Node,
    yes: YesOption = False,
    actor: ActorOption = None,
    request_id: RequestIdOption = None,
    output: OutputOption = "table",
) -> None:
    """Forget a node that will not come back.

    One that is ready, or where addresses are attached, is refused: fence it first.
    """
    attempt = request_id or str(uuid4())
    with asking(ctx, output, request_id=attempt) as asker:
        request = NodeRemove(request_id=attempt, actor=actor, node=node)
        if has_to_ask(yes):
            confirm(f"Forget node {node}?")
        show(asker.ask(request, Done), output, lambda console, _: console.print(f"node {node} is removed"))


def _present(asker: Session, node: str) -> NodeView:
    """The node as it is listed now. Raises `node_unknown`."""
    page = asker.ask_pages(NodeList(), NodePage, "nodes", None)
    for view in page.nodes:
        if view.node == node:
            return view
    raise ServiceError(
        Code.NODE_UNKNOWN, f"no node {node} ever reported; `moorage node list` shows which did", node=node
    )


def _warn(view: NodeView, meant: UUID) -> None:
    """What fencing this node means, on stderr."""
    seen = f"state {view.state}, last seen {cell_text(view.last_seen)}, session {meant}"
    say(
        f"Fencing declares node {view.node} off ({seen}). What is attached there ends, {view.attached} "
        "addresses now, and their owners may come up elsewhere with the same ones. Nothing checks that it is "
        "off: cut its power or its network first."
    )
    if meant != view.session:
        say(f"{view.node} is by now in session {view.session}: fencing another one changes nothing.")
    elif view.state == "ready":
        say(
            f"WARNING: {view.node} is ready: its heartbeats arrive, so it is NOT off. Fenced now, its pods "
            "go on using addresses that others get.",
            style="bold red",
        )


def _draw_fenced(console: Console, answer: NodeFenced) -> None:
    facts = (
        ("node", answer.node),
        ("session", answer.session),
        ("fenced", "yes" if answer.fenced else "no"),
        ("released", f"{answer.released} addresses"),
    )
    draw_facts(console, facts)
