"""The decision table of docs/addresses.md, row by row, on the real database."""

import pytest
from sqlalchemy import Engine

from broker.outcome import Outcome, Reply
from schemas.address import Allocated, Released
from tests.decision_table import Case, read_page
from tests.integration.deciding import Stage

pytestmark = pytest.mark.services

PAGE = read_page()
every_case = pytest.mark.parametrize("case", PAGE.cases, ids=lambda case: case.id)


@pytest.fixture
def stage(engine: Engine) -> Stage:
    return Stage(engine, PAGE)


@pytest.mark.parametrize("network", ["prod", "dual"])
def test_the_stage_is_as_the_page_says(stage: Stage, network: str):
    assert stage.pools(network) == stage.pools_of_page(PAGE, network)


@every_case
def test_every_case_comes_out_as_the_page_says(stage: Stage, case: Case):
    for phrase in case.situations():
        stage.bring_about(phrase)
    before, history = stage.rows(), len(stage.history())
    (outcome,) = stage.ask(stage.request(case.question()))
    stage.answers(case.answer(), outcome)
    compare(stage, case, before, history)
    stage.asked.check_used()
    for phrase in case.states():
        if phrase.kind == "ended":
            assert stage.has_ended(phrase.get("attachment"))


def compare(stage: Stage, case: Case, before: dict, history: int) -> None:
    """Assert that what the row says changed has changed, with a row in the history each, and nothing else."""
    after, told = stage.rows(), stage.history()[history:]
    network = case.question().get("network", "prod")
    expected = {}
    for phrase in case.states():
        expected |= stage.expected(phrase, network)
    changed = {address for address in after if after[address] != before.get(address)}
    assert changed == set(expected)
    for address, said in expected.items():
        assert {field: getattr(after[address], field) for field in said} == said
    assert {str(row.address) for row in told if row.address} == changed
    noted = [(row.event, row.address, row.attachment_id) for row in told]
    assert len(noted) == len(set(noted))
    if case.afterwards == "as before":
        assert not told


@every_case
def test_every_case_asked_twice_at_once_is_served_once(stage: Stage, case: Case):
    for phrase in case.situations():
        stage.bring_about(phrase)
    before, history = stage.rows(), len(stage.history())
    request = stage.request(case.question())
    first, second = stage.ask(request, request)
    stage.answers(case.answer(), first)
    assert repeated(second) == repeated(first)
    compare(stage, case, before, history)
    rows, told = stage.rows(), stage.history()
    (third,) = stage.ask(request)
    assert repeated(third) == repeated(first)
    assert (stage.rows(), stage.history()) == (rows, told)
    stage.asked.check_used()


def repeated(outcome: Outcome) -> object:
    """What is the same each time: all of it, but a release frees something only once."""
    match outcome:
        case Reply(Released()):
            return "released"
        case Reply(Allocated() as answer):
            return answer
        case _:
            return getattr(outcome, "error", outcome).__class__, str(getattr(outcome, "error", ""))
