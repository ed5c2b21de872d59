"""What several pages need: users, lost nodes, pods that know one another."""

from sqlalchemy import text

from compose.services.local import LocalServices
from tests.acceptance.machines import until
from tests.database import patient_engine
from tests.docs.stage import Stage

_LOST_S = 90


def enrolled(stage: Stage, name: str, role: str) -> str:
    """The URL of a client's user."""
    read = "python -c \"import json, sys; print(json.load(sys.stdin)['amqp_url'])\""
    return stage.must(f"moorage client enroll {name} --role {role} --rotate --output json | {read}").strip()


def lose(stage: Stage, node: str) -> None:
    """Kill a node's worker, and wait until the node counts as lost."""
    stage.machine.node(node).process.kill()
    until_lost(stage, node)


def until_lost(stage: Stage, node: str) -> None:
    """Wait until no heartbeat of a node came for so long that it counts as lost."""
    until(lambda: f"{node}  lost" in stage.must("moorage node list"), _LOST_S)


def local_servers(stage: Stage) -> LocalServices:
    """The stack's own servers."""
    assert stage.stack.servers.local is not None
    return stage.stack.servers.local


def sql(stage: Stage, statement: str, **values: object) -> None:
    """Change the stack's database under everybody."""
    engine = patient_engine(stage.stack.servers.database_url)
    try:
        with engine.begin() as connection:
            connection.execute(text(statement), values)
    finally:
        engine.dispose()
