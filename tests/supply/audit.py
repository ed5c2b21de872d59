"""Asks the vulnerability service about every pinned library: `make audit`.

Exit status 0: all were looked up and none is known to be vulnerable. 1: some are. 2: the service could not be
asked about all of them, which says nothing good or bad.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-audit.lock")
FINE, VULNERABLE, UNKNOWN = 0, 1, 2
_LIMIT_S = 600


def judged(dependencies: Sequence[Mapping[str, Any]]) -> tuple[int, list[str]]:
    """The exit status for what pip-audit found, and what to tell."""
    bad = [
        f"{each['name']} {each['version']}: {hole['id']}, mended in {' or '.join(hole['fix_versions'])}"
        for each in dependencies
        for hole in each.get("vulns", ())
    ]
    unknown = [f"{each['name']}: {each['skip_reason']}" for each in dependencies if "skip_reason" in each]
    if bad:
        return VULNERABLE, bad
    if unknown:
        return UNKNOWN, [
            f"{len(unknown)} of {len(dependencies)} could not be looked up, such as {unknown[0]}"
        ]
    return FINE, [f"none of {len(dependencies)} is known to be vulnerable"]


def asked(lock: str) -> tuple[int, list[str]]:
    """What the service says of one lock."""
    words = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "-r", str(ROOT / lock)]
    done = subprocess.run(
        [*words, "--format", "json", "--progress-spinner", "off"],
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return UNKNOWN, [f"the vulnerability service could not be asked: {last}"]
    return judged(found)


def main() -> int:
    """Ask about every lock, and tell."""
    results = {lock: asked(lock) for lock in LOCKS}
    for lock, (_, told) in results.items():
        for line in told:
            print(f"audit: {lock}: {line}")
    statuses = {status for status, _ in results.values()}
    return next(status for status in (VULNERABLE, UNKNOWN, FINE) if status in statuses)


if __name__ == "__main__":
    sys.exit(main())
