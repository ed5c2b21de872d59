"""Processes that cannot log in say so, and their password is nowhere in what they say."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Timer

import pytest
from yarl import URL

from compose.services.local import LocalServices

pytestmark = pytest.mark.services

SECRET = "hunter2-hunter2"
LIMIT_S = 60


def said(words: list[str], wanted: str, **settings: str) -> str:
    """All that a process says, in its most talkative mode, until it has said `wanted` or ended."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MOORAGE_")}
    given = {f"MOORAGE_{name.upper()}": value for name, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "compose.cli", *words],
        env={**kept, "MOORAGE_LOG_LEVEL": "debug", **given},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with ExitStack() as undo:
        limit = Timer(LIMIT_S, process.kill)
        limit.start()
        undo.callback(limit.cancel)
        lines: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if wanted in line:
                process.terminate()
        process.wait()
    text = "".join(lines)
    assert wanted in text, text
    return text


@pytest.fixture
def right(services: LocalServices) -> Iterator[dict[str, str]]:
    """Servers that are there, and would refuse this password."""
    amqp = str(URL(services.amqp_url).with_password(SECRET))
    database = f"mysql+pymysql://moorage:{SECRET}@127.0.0.1:{services.mariadb.port}/moorage"
    yield {"amqp_url": amqp, "database_url": database}


@pytest.mark.parametrize("style", ["json", "text"])
@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda url: url, "check user and password"),
        (lambda url: url.replace("127.0.0.1", "nowhere.invalid"), "cannot reach RabbitMQ"),
        (lambda url: url.replace("amqp://", "amqps://"), "no safe connection"),
        (lambda url: url.replace("127.0.0.1", "127.0.0.1:1,127.0.0.1"), "check user and password"),
    ],
    ids=["wrong password", "unknown host", "no TLS there", "several hosts"],
)
def test_a_broker_that_lets_nobody_in_is_told_without_the_password(
    right: dict[str, str], tmp_path: Path, style: str, change: object, wanted: str
):
    assert callable(change)
    settings = {
        "amqp_url": change(right["amqp_url"]),
        "node_name": "n1",
        "node_dir": str(tmp_path / "n"),
        "cni_socket": str(tmp_path / "cni.sock"),
        "log_format": style,
    }
    assert SECRET not in said(["node"], wanted, **settings)


@pytest.mark.parametrize("style", ["json", "text"])
@pytest.mark.parametrize(
    ("change", "wanted", "more"),
    [
        (lambda url: url, "Access denied", {}),
        (lambda url: url.replace("127.0.0.1", "nowhere.invalid"), "nowhere.invalid", {}),
        (lambda url: url, "SSL", {"database_ca": "system"}),
    ],
    ids=["wrong password", "unknown host", "no TLS there"],
)
def test_a_database_that_lets_nobody_in_is_told_without_the_password(
    right: dict[str, str], style: str, change: object, wanted: str, more: dict[str, str]
):
    assert callable(change)
    settings = {**right, "database_url": change(right["database_url"]), "log_format": style, **more}
    assert SECRET not in said(["allocator"], wanted, **settings)


@pytest.mark.parametrize("command", ["node", "allocator"])
def test_half_a_file_is_told_without_the_half(right: dict[str, str], tmp_path: Path, command: str):
    file = tmp_path / "url"
    file.write_text(right["amqp_url"].partition("@")[0])
    settings = {"amqp_url_file": str(file), "node_name": "n1", "database_url": right["database_url"]}
    assert SECRET not in said([command], "the AMQP URL", **settings)
