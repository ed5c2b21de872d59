"""docs/migration.md: the example is the repository's."""

from tests.docs.marks import ROOT
from tests.docs.preparing import before
from tests.docs.stage import Stage


@before("docs/migration.md")
def _a_checkout_is_there(stage: Stage) -> None:
    stage.said["docs/examples"] = str(ROOT / "docs" / "examples")
