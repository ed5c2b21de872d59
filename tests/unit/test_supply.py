"""The supply chain: what is installed is pinned by hash, and only an audit that was made is a good one."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.supply.audit import FINE, LOCKS, ROOT, UNKNOWN, VULNERABLE, judged

CLEAN = {"name": "a", "version": "1", "vulns": []}
HOLE = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
SKIPPED = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ([CLEAN], FINE),
        ([CLEAN, HOLE], VULNERABLE),
        ([CLEAN, SKIPPED], UNKNOWN),
        ([SKIPPED, HOLE], VULNERABLE),
    ],
)
def test_an_audit_is_good_only_if_everything_was_looked_up(found: list[dict[str, Any]], status: int):
    assert judged(found)[0] == status


def test_a_vulnerable_library_is_told_with_what_mends_it():
    assert judged([HOLE])[1] == ["b 2: PYSEC-1, mended in 3"]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pinned_library_has_hashes(lock: str):
    entries = re.split(r"^(?=[A-Za-z0-9])", (ROOT / lock).read_text(), flags=re.MULTILINE)[1:]
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_the_locks_agree_with_one_another():
    pins: dict[str, set[str]] = {}
    for lock in LOCKS:
        for name, version in re.findall(
            r"^([A-Za-z0-9._-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE
        ):
            pins.setdefault(f"{name} in {lock}", set()).add(version)
    by_name: dict[str, set[frozenset[str]]] = {}
    for key, versions in pins.items():
        by_name.setdefault(key.split(" in ")[0], set()).add(frozenset(versions))
    assert {name: found for name, found in by_name.items() if len(found) > 1} == {}


def test_every_lock_is_audited():
    assert {path.name for path in Path(ROOT).glob("requirements*.lock")} == set(LOCKS)
