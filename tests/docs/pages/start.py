"""docs/start.md: it starts everything by itself."""

from node_worker.netlink import simulated
from tests.docs.preparing import NODES, before
from tests.docs.stage import Stage

NODES["docs/start.md"] = 0


@before("docs/start.md", "move")
def _the_executable_is_built_elsewhere(stage: Stage) -> None:
    stage.export(SHIM=stage.shim)
    stage.undo.callback(simulated.remove_netns, "pod-web-0")
