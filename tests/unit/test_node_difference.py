"""When digests that differ are worth a comparison."""

from node_worker.difference import Difference


def test_digests_that_differ_once_prove_nothing() -> None:
    difference = Difference()
    assert not difference.heard("a", "b")
    assert not difference.heard("b", "b")
    assert not difference.heard("b", "c")


def test_digests_that_differ_twice_in_a_row_are_worth_a_comparison() -> None:
    difference = Difference()
    assert not difference.heard("a", "b")
    assert difference.heard("c", "d"), "a busy node is never quiet"


def test_what_a_comparison_left_as_it_was_is_asked_about_again_only_after_a_while() -> None:
    difference = Difference()
    asked = [difference.heard("a", "b") for _ in range(62)]
    assert [number for number, compared in enumerate(asked, 1) if compared] == [2, 32, 62]


def test_another_difference_than_the_one_asked_about_is_asked_about() -> None:
    difference = Difference()
    assert [difference.heard("a", "b") for _ in range(2)] == [False, True]
    assert [difference.heard("a", "c") for _ in range(2)] == [False, True]


def test_digests_that_agreed_in_between_make_it_another_difference() -> None:
    difference = Difference()
    assert [difference.heard("a", "b") for _ in range(2)] == [False, True]
    assert not difference.heard("a", "a")
    assert [difference.heard("a", "b") for _ in range(2)] == [False, True]


def test_an_allocator_that_wants_to_hear_all_is_told_at_once() -> None:
    assert Difference().heard("a", "")
    assert Difference().heard(None, "")


def test_an_older_allocator_and_an_unreadable_journal_are_no_difference() -> None:
    difference = Difference()
    for ours, theirs in (("a", None), (None, "b")):
        assert not any(difference.heard(ours, theirs) for _ in range(3))
