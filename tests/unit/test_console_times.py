"""Durations as people write them."""

import pytest

from console.times import seconds, spelled
from schemas.errors import Code, ServiceError


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("0", 0),
        ("120", 120),
        ("90s", 90),
        ("15m", 900),
        ("12h", 43_200),
        ("30d", 2_592_000),
        (" 7d ", 604_800),
        ("007", 7),
    ],
)
def test_a_duration_is_seconds_or_a_number_with_its_unit(text, means):
    assert seconds("--cooldown", text) == means


@pytest.mark.parametrize(
    "text", ["", "s", "-1", "1.5h", "1h30m", "5w", "5 m", "5M", "0x10", "1e3", "٣", "9" * 5000, "forever"]
)
def test_what_is_no_duration_is_refused_by_the_options_name_with_examples(text):
    with pytest.raises(ServiceError) as refused:
        seconds("--retain", text)
    assert refused.value.code == Code.INVALID_REQUEST
    assert refused.value.message.startswith(f"--retain {text}: ")
    assert "90s, 15m, 12h, 30d" in refused.value.message


@pytest.mark.parametrize(
    ("duration", "text"),
    [(0, "0s"), (45, "45s"), (90, "90s"), (120, "2m"), (5400, "90m"), (43_200, "12h"), (604_800, "7d")],
)
def test_a_duration_is_shown_as_it_may_be_written(duration, text):
    assert spelled(duration) == text
    assert seconds("--cooldown", text) == duration
