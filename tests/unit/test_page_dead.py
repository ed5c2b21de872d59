"""Dead letters on the page: looked at by viewers, acted on by operators."""

from pathlib import Path

import pytest

from broker.topology import REQUESTS_EXCHANGE
from schemas.dead import AuditRecord
from tests.letters import letter
from tests.visitors import Visited, sent

LETTERS = [letter(1), letter(2, code="exhausted", reason="no address left"), letter(3, deaths=5)]


def replayed(web: Visited) -> list[str]:
    audit = AuditRecord.NAME
    return [
        each.message.message_id
        for each in web.post.sent
        if each.exchange == REQUESTS_EXCHANGE and audit not in each.key
    ]


async def test_letters_are_listed_and_narrowed(tmp_path: Path):
    web = Visited(tmp_path, letters=LETTERS)
    async with web.browser("viewer") as client:
        every, some = await client.get("/dead"), await client.get("/dead?reason=no+address")
    assert "3 fit, of 3" in every.text
    assert "1 fit, of 3" in some.text
    assert "no address left" in some.text
    assert "there is no pool web" not in some.text
    assert 'type="checkbox"' not in every.text
    assert 'value="discard"' not in every.text


async def test_one_letter_is_shown_whole(tmp_path: Path):
    web = Visited(tmp_path, letters=LETTERS)
    async with web.browser("viewer") as client:
        answer = await client.get(f"/dead/{LETTERS[1].id}")
        gone = await client.get("/dead/nothing-like-it")
    assert "&#34;container_id&#34;: &#34;c1&#34;" in answer.text
    assert "node.node-1" in answer.text
    assert gone.status_code == 404


async def test_a_dry_run_says_what_a_replay_would_do_and_changes_nothing(tmp_path: Path):
    web = Visited(tmp_path, letters=LETTERS)
    async with web.browser() as client:
        answer = await sent(client, "/dead", "/dead", id=LETTERS[0].id, do="try")
        one = await sent(client, "/dead", f"/dead/{LETTERS[0].id}/try")
    assert "<td>apply</td>" in answer.text
    assert "A replay would: <strong>apply</strong>" in one.text
    assert web.box.left == LETTERS
    assert web.post.sent == []


async def test_those_that_are_ticked_are_replayed_and_no_others(tmp_path: Path):
    web = Visited(tmp_path, letters=LETTERS)
    async with web.browser() as client:
        answer = await sent(
            client, "/dead", "/dead", id=[LETTERS[0].id, LETTERS[1].id], do="replay", reason="mended"
        )
    assert "2 replayed" in answer.text
    assert replayed(web) == [LETTERS[0].id, LETTERS[1].id]
    assert web.box.left == [LETTERS[2]]
    assert b"a-operator" in web.post.sent[0].message.body
    assert b"mended" in web.post.sent[0].message.body


async def test_a_letter_that_died_often_is_left_with_why_unless_it_is_forced(tmp_path: Path):
    web = Visited(tmp_path, letters=LETTERS)
    async with web.browser() as client:
        left = await sent(client, "/dead", "/dead", id=LETTERS[2].id, do="replay")
        assert web.box.left == LETTERS
        done = await sent(client, "/dead", "/dead", id=LETTERS[2].id, do="replay", force="yes")
    assert "it died 5 times" in left.text
    assert "1 replayed" in done.text


async def test_all_that_fit_are_discarded_once_the_word_is_typed(tmp_path: Path):
    web = Visited(tmp_path, letters=LETTERS)
    form = {"all": "yes", "filter": "no address", "request": "", "network": ""}
    async with web.browser() as client:
        hasty = await sent(client, "/dead", "/dead", **form, do="discard")
        assert web.box.left == LETTERS
        done = await sent(client, "/dead", "/dead", **form, do="discard", confirm="discard")
    assert hasty.status_code == 422
    assert "1 discarded" in done.text
    assert web.box.left == [LETTERS[0], LETTERS[2]]


@pytest.mark.parametrize("what", ["try", "replay", "discard"])
async def test_a_viewer_changes_none(tmp_path: Path, what: str):
    web = Visited(tmp_path, letters=LETTERS)
    async with web.browser("viewer") as client:
        answer = await sent(client, "/dead", "/dead", all="yes", do=what, confirm="discard")
        one = await sent(client, "/dead", f"/dead/{LETTERS[0].id}/try")
    assert (answer.status_code, one.status_code) == (403, 403)
    assert web.box.left == LETTERS
    assert web.post.sent == []


@pytest.mark.parametrize("form", [{"do": "replay"}, {"do": "discard", "confirm": "discard"}, {"all": "yes"}])
async def test_without_a_choice_nothing_is_done(tmp_path: Path, form: dict[str, str]):
    web = Visited(tmp_path, letters=LETTERS)
    async with web.browser() as client:
        answer = await sent(client, "/dead", "/dead", **form)
    assert answer.status_code == 422
    assert web.box.left == LETTERS
