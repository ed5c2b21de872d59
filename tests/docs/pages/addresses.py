"""docs/addresses.md."""

from datetime import UTC, datetime

from tests.docs.acting import lose
from tests.docs.preparing import before
from tests.docs.stage import Stage


@before("docs/addresses.md")
def _ann_is_at_the_keyboard(stage: Stage) -> None:
    stage.export(MOORAGE_ACTOR="ann")


@before("docs/addresses.md", "release")
def _an_address_waits_still(stage: Stage) -> None:
    stage.said["2026-11-25T12:50:38"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


@before("docs/addresses.md", "fence")
def _a_node_with_a_pod_is_lost(stage: Stage) -> None:
    stage.attach("shop/web-3", "node-2")
    lose(stage, "node-2")
