"""Which owners a pattern such as `shop/web-*` allows, and which of two patterns says more."""

import re
from collections.abc import Iterable
from functools import lru_cache


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("[^/]*".join(re.escape(part) for part in pattern.split("*")))


def matches(pattern: str, owner: str) -> bool:
    """Whether `pattern` covers `owner`. A `*` stands for any run of characters but never for a `/`."""
    return _compiled(pattern).fullmatch(owner) is not None


def specificity(patterns: Iterable[str], owner: str) -> int | None:
    """How closely the best of `patterns` describes `owner`: its literal characters; None if none matches."""
    hits = [len(pattern) - pattern.count("*") for pattern in patterns if matches(pattern, owner)]
    return max(hits, default=None)
