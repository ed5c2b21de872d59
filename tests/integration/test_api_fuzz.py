"""The API asked for whatever its own OpenAPI allows, and for what it does not, on the real system."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import Engine

from compose.services.local import LocalServices
from tests.integration.allocating import Asked
from tests.integration.brokering import provisioned
from tests.integration.webbing import RunningConsole, running_console

EXAMPLES = 16
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
WAIT_S = 30.0
THERE = {"network": "prod", "pool": "shop", "address": "10.1.0.70"}


@pytest.fixture
def console(
    services: LocalServices, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunningConsole]:
    """A console that lets one address ask as often as it likes, over network prod."""
    monkeypatch.setattr("compose.console_process._CLIENT_BURST", 1_000_000)
    made = Asked(engine)
    made.network("prod", "10.1.0.0/24")
    made.pool("shop", "10.1.0.64-10.1.0.127", owners=["shop/*"])
    with (
        provisioned(services.management_url, services.amqp_url) as broker,
        running_console(broker, services, tmp_path) as running,
    ):
        yield running


@pytest.mark.parametrize(("role", "namespaces"), [("operator", ()), ("tenant", ("shop",))])
def test_nothing_fails_and_nothing_answers_what_is_not_documented(
    console: RunningConsole, role: str, namespaces: tuple[str, ...]
):
    token = console.tokens.create("fuzz", role, namespaces)  # type: ignore[arg-type]
    console.wait(token)
    with console.program(token) as client:
        document = client.get("/api/v1/openapi.json").json()
    del document["paths"]["/api/v1/events"]  # it has no end; its own tests look at it
    failures: list[str] = []
    turns = count()
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = found.ok()
        strategies = [operation.as_strategy(generation_mode=mode) for mode in GenerationMode]

        @seed(7)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategies[0] | strategies[1])
        def ask(case: schemathesis.Case) -> None:
            if (
                next(turns) % 2 and case.method != "DELETE"
            ):  # what is there, too: names that are made up are nearly never
                case.path_parameters |= {name: THERE[name] for name in THERE if name in case.path_parameters}
            case.call_and_validate(
                base_url=console.url,
                headers={"Authorization": f"Bearer {token}"},
                checks=CHECKS,
                timeout=WAIT_S,
            )

        try:
            ask()
        except Exception as error:
            failures.append(f"{operation.label}: {error}")
    assert failures == []
