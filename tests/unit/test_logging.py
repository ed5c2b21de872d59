"""What the log shows of a failure: where it was, and nothing that variables held."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import structlog
from compose.logging import configure_logging

configure_logging("debug", sys.argv[1])

def connect():
    password = "hunter" + "2"
    raise OSError(f"no way in for a password of {len(password)} letters")

try:
    connect()
except OSError:
    structlog.get_logger("moorage").exception("it failed")
"""


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_traceback_shows_no_variables(style: str):
    words = [sys.executable, "-c", PROGRAM, style]
    said = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True).stderr
    assert "it failed" in said and "connect" in said and "7 letters" in said
    assert "hunter2" not in said
