"""docs/rest.md: with a console beside the stack."""

from datetime import UTC, datetime

from compose.local_console import local_console
from tests.docs.preparing import before, meanwhile
from tests.docs.stage import Stage


@before("docs/rest.md")
def _a_console_runs(stage: Stage) -> None:
    console = stage.undo.enter_context(local_console(stage.stack))
    stage.said["http://127.0.0.1:8480"] = console.url.rstrip("/")
    stage.export(MOORAGE_TOKENS_FILE=console.tokens_file)


@before("docs/rest.md", "delete")
def _an_address_waits(stage: Stage) -> None:
    stage.must("moorage pool create lab db --policy pinned --range 10.88.0.13-10.88.0.13")
    stage.must("moorage address reserve lab shop/web-0 --address 10.88.0.13")


@before("docs/rest.md", "reserve")
def _it_was_let_go(stage: Stage) -> None:
    stage.must("moorage address release lab 10.88.0.13 --reason 'moved to the other cluster' --yes")
    stage.must("moorage pool delete lab db --yes")


@before("docs/rest.md", "history")
def _it_was_moved(stage: Stage) -> None:
    body = '{"owner": "shop/web-0", "addresses": ["10.88.0.13"]}'
    as_json = "-H 'Content-Type: application/json'"
    console = stage.said["http://127.0.0.1:8480"]
    stage.must(f"curl -sf {console}/api/v1/networks/lab/addresses/rebind -H \"$A\" {as_json} -d '{body}'")
    stage.said["2026-11-29T14:05:00Z"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@meanwhile("docs/rest.md", "events")
def _let_go(stage: Stage) -> None:
    release = '{"reason": "moved to the other cluster"}'
    as_json = "-H 'Content-Type: application/json'"
    url = f"{stage.said['http://127.0.0.1:8480']}/api/v1/networks/lab/addresses/10.88.0.13/release"
    stage.must(f"curl -sf {url} -H \"$A\" {as_json} -d '{release}'")
