"""README.md: it starts everything by itself."""

from tests.docs.acting import enrolled
from tests.docs.preparing import NODES, before
from tests.docs.stage import Stage

NODES["README.md"] = 0


@before("README.md", "producer")
def _a_producer_is_enrolled(stage: Stage) -> None:
    stage.export(PRODUCER_URL=enrolled(stage, "team-a", "producer"))
