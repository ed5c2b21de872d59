"""`moorage console` as a process: where it may listen, TLS, and a broker that is away."""

import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from compose.console_process import check_exposure
from compose.services import ports
from compose.settings import Settings
from console.access.tokens import Tokens
from schemas.errors import Code, ServiceError

_LIMIT_S = 30


def settings(folder: Path, listen: str, **more: Any) -> Settings:
    return Settings(console_listen=listen, tokens_file=folder / "tokens.json", **more)


@pytest.mark.parametrize("listen", ["127.0.0.1:8480", "[::1]:8480", "127.9.9.9:0"])
def test_within_this_machine_neither_tls_nor_tokens_are_needed(tmp_path: Path, listen: str):
    given = settings(tmp_path, listen)
    check_exposure(given, Tokens(given.tokens_file))


@pytest.mark.parametrize("listen", ["0.0.0.0:8480", "[::]:8480", "192.0.2.1:8480", "no.such.host.invalid:80"])
def test_where_others_reach_it_there_must_be_tls(tmp_path: Path, listen: str):
    given = settings(tmp_path, listen)
    tokens = Tokens(given.tokens_file)
    tokens.create("ops", "operator")
    with pytest.raises(ServiceError, match="MOORAGE_CONSOLE_CERTIFICATE") as refused:
        check_exposure(given, tokens)
    assert refused.value.code == Code.NOT_PROVISIONED


def test_where_others_reach_it_there_must_be_a_token(tmp_path: Path):
    files = {"console_certificate": tmp_path / "c.pem", "console_key": tmp_path / "k.pem"}
    given = settings(tmp_path, "0.0.0.0:8480", **files)
    with pytest.raises(ServiceError, match="moorage token create"):
        check_exposure(given, Tokens(given.tokens_file))
    Tokens(given.tokens_file).create("ops", "operator")
    check_exposure(given, Tokens(given.tokens_file))


def test_a_certificate_without_its_key_is_refused(tmp_path: Path):
    given = settings(tmp_path, "127.0.0.1:8480", console_certificate=tmp_path / "c.pem")
    with pytest.raises(ServiceError, match="set both"):
        check_exposure(given, Tokens(given.tokens_file))


def test_tokens_that_cannot_be_read_stop_the_start(tmp_path: Path):
    given = settings(tmp_path, "127.0.0.1:8480")
    given.tokens_file.write_text("{")
    given.tokens_file.chmod(0o600)
    with pytest.raises(ServiceError, match="MOORAGE_TOKENS_FILE"):
        check_exposure(given, Tokens(given.tokens_file))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signed itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "certificate.pem", folder / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-keyout", str(key), "-out", str(made), "-days", "2", "-subj", "/CN=moorage"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(words, check=True, capture_output=True)
    return made, key


@contextmanager
def console(folder: Path, **variables: object) -> Iterator[str]:
    """A console whose RabbitMQ is away; gives HOST:PORT."""
    held = ports.reserve(2, f"console {folder}")
    nobody, address = (f"127.0.0.1:{port}" for port in held.ports)
    env = {
        "MOORAGE_AMQP_URL": f"amqp://console.test:secret@{nobody}/",
        "MOORAGE_CONSOLE_LISTEN": address,
        "MOORAGE_TOKENS_FILE": str(folder / "tokens.json"),
        "MOORAGE_TIMEOUT_S": "0.2",
        "PATH": "/usr/bin:/bin",
    }
    held.release()
    log = folder / "console.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "compose.cli", "console"],
            env=env | {key: str(value) for key, value in variables.items()},
            stdout=out,
            stderr=out,
            cwd=Path(__file__).parent.parent.parent,
        )
    try:
        deadline = time.monotonic() + _LIMIT_S
        while "console listens" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        assert process.wait(_LIMIT_S) == 0, log.read_text()


def test_while_the_broker_is_away_it_runs_and_says_so(tmp_path: Path):
    token = Tokens(tmp_path / "tokens.json").create("ops", "operator")
    with console(tmp_path) as address:
        headers = {"Authorization": f"Bearer {token}"}
        answer = httpx.get(f"http://{address}/api/v1/networks", headers=headers, timeout=_LIMIT_S)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert "RabbitMQ" in answer.json()["detail"]
    assert "server" not in answer.headers


def test_it_serves_tls_and_browsers_are_told_to_insist(tmp_path: Path, certificate: tuple[Path, Path]):
    made, key = certificate
    files = {"MOORAGE_CONSOLE_CERTIFICATE": made, "MOORAGE_CONSOLE_KEY": key}
    with console(tmp_path, **files) as address:
        trusting = ssl.create_default_context(cafile=str(made))
        answer = httpx.get(f"https://{address}/api/v1/networks", verify=trusting, timeout=_LIMIT_S)
        assert answer.status_code == 401
        assert "Strict-Transport-Security" in answer.headers
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://{address}/api/v1/networks", timeout=_LIMIT_S)


def test_a_second_one_at_the_same_address_says_who_to_look_for(tmp_path: Path):
    with console(tmp_path) as address:
        done = subprocess.run(
            [sys.executable, "-m", "compose.cli", "console"],
            env={
                "MOORAGE_AMQP_URL": "amqp://console.test:secret@127.0.0.1:1/",
                "MOORAGE_CONSOLE_LISTEN": address,
                "MOORAGE_TOKENS_FILE": str(tmp_path / "tokens.json"),
                "PATH": "/usr/bin:/bin",
            },
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
            cwd=Path(__file__).parent.parent.parent,
        )
    assert done.returncode == 1
    assert "ss -ltnp" in " ".join(done.stderr.split())
