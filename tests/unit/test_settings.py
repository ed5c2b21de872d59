"""Settings that cannot be used are named, and those that can are read."""

import pytest

from compose.settings import read_settings
from schemas.errors import Code, ServiceError


def test_history_is_kept_for_400_days_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MOORAGE_HISTORY_DAYS", raising=False)
    assert read_settings().history_days == 400
    monkeypatch.setenv("MOORAGE_HISTORY_DAYS", "1")
    assert read_settings().history_days == 1


@pytest.mark.parametrize("days", ["0", "-1", "0.5", "soon"])
def test_history_is_kept_for_at_least_a_day(monkeypatch: pytest.MonkeyPatch, days: str):
    """A released attachment must stay known for longer than any request for it can be late."""
    monkeypatch.setenv("MOORAGE_HISTORY_DAYS", days)
    with pytest.raises(ServiceError, match="history_days") as caught:
        read_settings()
    assert caught.value.code == Code.INVALID_REQUEST
