"""`moorage dead`: which letters are meant, what is done with them, and how it reads."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from broker.dead_letters.acting import CAP
from broker.dead_letters.letter import Letter, from_json
from schemas.dead import ReplayPreview, ReplayPreviewed
from tests.console_fakes import ACTOR, FakeAllocator, document, run, run_at_a_terminal, table
from tests.letters import AT, Letters, letter

THREE = [
    letter(1),
    letter(2, network="lab", code="exhausted", reason="no address left"),
    letter(3, request="node.report", routing_key="3.node.report", sender="node.node-2", node="node-2"),
]


def allocator(letters: Letters, answer: Any = None) -> FakeAllocator:
    fake = FakeAllocator({ReplayPreview: lambda asked: answer(asked) if answer else None})
    fake.letter_box, fake.post = letters.letter_box, letters.post  # type: ignore[attr-defined]
    return fake


def dead(letters: Letters, *command: str, **fields: Any) -> Result:
    return run(allocator(letters, **fields), "dead", *command)


def ids(result: Result) -> list[str]:
    return [one["id"] for one in document(result)["letters"]]


def test_the_oldest_first_death_is_at_the_top_wherever_it_lies_in_the_queue():
    came_back = letter(9, first_death=AT, deaths=2)
    shown = table(dead(Letters([*THREE, came_back]), "list"))
    assert shown[0] == [
        *("ID", "FIRST DEATH", "AGE", "DEATHS", "REQUEST", "NETWORK", "SENDER", "CODE", "REASON"),
    ]
    assert [line[0] for line in shown[1:]] == ["000009-lette", "000001-lette", "000002-lette", "000003-lette"]
    assert shown[1][1] == "2026-03-01T14:05:00Z"
    assert shown[1][3] == "2"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--request", "node.report"], [3]),
        (["--network", "lab"], [2]),
        (["--node", "node-2"], [3]),
        (["--sender", "node.node-2"], [3]),
        (["--code", "exhausted"], [2]),
        (["--reason", "NO POOL"], [1, 3]),
        (["--network", "prod", "--code", "pool_unknown"], [1, 3]),
        (["--network", "nowhere"], []),
    ],
)
def test_filters(options: list[str], found: list[int]):
    result = dead(Letters(list(THREE)), "list", *options, "--output", "json")
    assert ids(result) == [f"{number:06d}-letter" for number in found]
    assert document(result)["count"] == 3


def test_age():
    now = datetime.now(UTC)
    young = letter(2, first_death=now - timedelta(minutes=2), last_death=now)
    letters = [letter(1), young]
    assert ids(dead(Letters(letters), "list", "--older-than", "1h", "-o", "json")) == ["000001-letter"]
    assert ids(dead(Letters(letters), "list", "--newer-than", "1h", "-o", "json")) == ["000002-letter"]
    assert dead(Letters(letters), "list", "--older-than", "soon").exit_code == 2


def test_a_list_keeps_the_oldest_and_says_that_there_are_more():
    many = [letter(number) for number in range(1, 8)]
    result = dead(Letters(many[::-1]), "list", "--limit", "2")
    assert [line[0] for line in table(result)[1:]] == ["000001-lette", "000002-lette"]
    assert "There are 7 such letters" in result.stderr
    assert len(ids(dead(Letters(many), "list", "--all", "--output", "json"))) == 7


def test_a_summary_counts_each_kind():
    result = dead(Letters([*THREE, letter(4)]), "list", "--summary")
    assert table(result) == [
        ["REQUEST", "CODE", "LETTERS"],
        ["address.release", "pool_unknown", "2"],
        ["address.release", "exhausted", "1"],
        ["node.report", "pool_unknown", "1"],
    ]


def test_an_empty_box_says_so():
    assert "There are no dead letters." in dead(Letters([]), "list").stderr


def test_show_lays_out_the_story_and_the_body():
    result = dead(Letters(list(THREE)), "show", "000002")
    assert "no address left" in result.stdout
    assert '\n  "container_id": "c1",\n' in result.stdout


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"\xff\x00", "b'\\xff\\x00'"),
        (b"plain \x1b[31mred", "plain \\x1b[31mred"),
        (b'{"a": "\\u001b[2J"}', '"a": "\\u001b[2J"'),
    ],
)
def test_a_body_never_steers_the_terminal(body: bytes, shown: str):
    result = dead(Letters([letter(1, body=body, reason="\x1b[2Jhidden")]), "show", "000001")
    assert shown in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("wanted", ["000", "999999"])
def test_an_id_that_names_no_letter_is_refused(wanted: str):
    assert dead(Letters(list(THREE)), "show", wanted).exit_code == 2


def test_an_id_that_names_several_is_refused():
    result = dead(Letters([letter(1, id="abcdef-1"), letter(2, id="abcdef-2")]), "show", "abcdef")
    assert result.exit_code == 2
    assert "abcdef-1, abcdef-2" in result.stderr


@pytest.mark.parametrize("command", ["replay", "discard"])
@pytest.mark.parametrize("options", [[], ["--all", "--network", "prod"]])
def test_what_is_meant_has_to_be_said_once(command: str, options: list[str]):
    letters = Letters(list(THREE))
    result = dead(letters, command, *options)
    assert result.exit_code == 2
    assert "--all" in result.stderr
    assert letters.out.sent == []


def test_a_replay_is_written_down_sent_as_it_was_and_taken_out():
    letters = Letters(list(THREE))
    result = dead(letters, "replay", "--network", "prod", "--because", "the pool is back", "-o", "json")
    assert result.exit_code == 0
    told = document(result)
    assert (told["replayed"], told["left"]) == (2, 0)
    assert [one.id for one in letters.letters] == ["000002-letter"]
    [record] = letters.out.audited
    assert (record.event, record.actor) == ("dead.replayed", ACTOR)
    assert record.details == {
        "run": told["run"],
        "choice": {"network": "prod"},
        "reason": "the pool is back",
    }
    assert [one.id for one in record.letters] == ["000001-letter", "000003-letter"]
    first = letters.out.replayed[0]
    assert (first.exchange, first.key) == ("moorage.requests", "3.address.release")
    assert first.message.body == THREE[0].body
    assert first.message.reply_to is None, "an error answer would not bring the letter back"
    assert first.message.headers["x-moorage-sender"] == "node.node-1"
    assert f"moorage dead list --run {told['run']}" in result.stderr


def left(result: Result) -> str:
    [one] = document(result)["first_left"]
    assert result.exit_code == 1
    assert document(result)["replayed"] == 0
    return str(one["why"])


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"code": "sender_forbidden"}, "was not allowed to ask this: discard it"),
        ({"sender": "producer.team"}, "may not send address.release"),
        ({"sender": ""}, "has no role"),
        ({"request": "node.sync", "routing_key": "1.node.sync"}, "operator.ann may not send node.sync"),
        ({"request": None, "routing_key": "nonsense"}, "no request has the routing key nonsense"),
        ({"deaths": CAP}, "--force"),
    ],
)
def test_what_cannot_be_replayed_stays_and_says_why(parts: dict[str, Any], why: str):
    letters = Letters([letter(1, **parts)])
    assert why in left(dead(letters, "replay", "--all", "--output", "json"))
    assert letters.out.sent == []
    assert len(letters.letters) == 1


def test_what_nobody_may_ask_is_not_forced_either():
    assert "not allowed" in left(
        dead(Letters([letter(1, code="sender_forbidden")]), "replay", "--all", "--force", "-o", "json")
    )


def test_force_replays_what_died_often():
    letters = Letters([letter(1, deaths=CAP)])
    assert dead(letters, "replay", "--all", "--force").exit_code == 0
    assert letters.letters == []


def test_what_the_broker_does_not_take_stays():
    letters = Letters([letter(1)], refused=frozenset({"3.address.release"}))
    assert "did not take it" in left(dead(letters, "replay", "--all", "--output", "json"))
    assert len(letters.letters) == 1


def test_a_dry_run_changes_nothing_and_says_what_each_would_do():
    answers = {
        "000001-letter": ReplayPreviewed(prospect="apply"),
        "000002-letter": ReplayPreviewed(prospect="failing", reason="no address left", code="exhausted"),
    }
    given = [letter(1, body=b'"1"'), letter(2, body=b'"2"'), letter(3, code="sender_forbidden")]
    letters = Letters(list(given))

    def foresee(asked: ReplayPreview) -> ReplayPreviewed:
        assert (asked.request, asked.sender) == ("address.release", "node.node-1")
        return answers[f"00000{json.loads(asked.body)}-letter"]

    result = dead(letters, "replay", "--all", "--dry-run", answer=foresee)
    assert [line[:5] for line in table(result)[1:4]] == [
        ["000001-lette", "address.release", "prod", "1", "apply"],
        ["000002-lette", "address.release", "prod", "1", "failing"],
        ["000003-lette", "address.release", "prod", "1", "failing"],
    ]
    assert "apply: 1, failing: 2" in result.stdout
    assert letters.letters == given
    assert letters.out.sent == []


def test_discard_asks_first_and_tells_what_goes():
    letters = Letters(list(THREE))
    result = run_at_a_terminal(allocator(letters), "n\n", "dead", "discard", "--all")
    assert "Discard these 3 dead letters" in result.stderr
    assert letters.letters == THREE
    assert letters.out.sent == []
    assert (
        run_at_a_terminal(allocator(letters), "y\n", "dead", "discard", "--code", "exhausted").exit_code == 0
    )
    assert [one.id for one in letters.letters] == ["000001-letter", "000003-letter"]
    [record] = letters.out.audited
    assert (record.event, [one.id for one in record.letters]) == ("dead.discarded", ["000002-letter"])


def test_what_dies_while_a_person_thinks_is_not_discarded():
    letters = Letters([letter(1)], later=[letter(5)])
    run_at_a_terminal(allocator(letters), "y\n", "dead", "discard", "--all")
    assert [one.id for one in letters.letters] == ["000005-letter"]
    [record] = letters.out.audited
    assert [one.id for one in record.letters] == ["000001-letter"]


def test_discard_without_a_terminal_needs_a_yes():
    letters = Letters(list(THREE))
    assert dead(letters, "discard", "--all").exit_code == 2
    assert letters.letters == THREE
    assert dead(letters, "discard", "--all", "--yes").exit_code == 0
    assert letters.letters == []


def test_exported_and_imported_it_is_the_same(tmp_path: Path):
    given = [
        letter(1),
        letter(2, body=b"\xff\x00", network=None, node=None),
        letter(3, replay="r1", version=None),
    ]
    file = tmp_path / "letters.jsonl"
    assert dead(Letters(list(given)), "export", str(file)).exit_code == 0
    assert [from_json(json.loads(line)) for line in file.read_text().splitlines()] == given
    empty = Letters([])
    result = dead(empty, "import", str(file), "--output", "json")
    assert document(result) == {"imported": 3, "there_already": 0, "left": 0}
    assert [posted.message.message_id for posted in empty.out.buried] == [one.id for one in given]
    assert [posted.message.body for posted in empty.out.buried] == [one.body for one in given]
    assert empty.out.audited[0].event == "dead.imported"


def test_what_lies_there_already_is_not_imported_twice(tmp_path: Path):
    file = tmp_path / "letters.jsonl"
    file.write_text("".join(f"{json.dumps(one.as_json())}\n" for one in [*THREE, THREE[0]]))
    letters = Letters([THREE[0]])
    result = dead(letters, "import", str(file), "--output", "json")
    assert document(result) == {"imported": 2, "there_already": 2, "left": 0}


@pytest.mark.parametrize("line", ["nonsense", "{}", '"text"', "[]", '{"id": "x"}'])
def test_a_file_that_cannot_be_read_imports_nothing(tmp_path: Path, line: str):
    file = tmp_path / "letters.jsonl"
    file.write_text(f"{json.dumps(THREE[0].as_json())}\n{line}\n")
    letters = Letters([])
    result = dead(letters, "import", str(file))
    assert result.exit_code == 2
    assert "line 2" in result.stderr
    assert letters.out.sent == []


def test_a_file_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path: Path):
    result = dead(Letters(list(THREE)), "export", str(tmp_path / "nowhere" / "x"))
    assert result.exit_code == 2
    assert "nowhere" in result.stderr


def test_letters_are_the_same_after_json():
    for one in THREE:
        again: Letter = from_json(json.loads(json.dumps(one.as_json())))
        assert again == one
