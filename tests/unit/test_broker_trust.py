"""Whose certificates are believed, and what is told of files that cannot be used for it."""

import os
import pty
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.login import SYSTEM, Trust
from schemas.errors import Code, ServiceError

SETTING = "MOORAGE_AMQP"


def made(folder: Path, name: str, *words: str) -> tuple[Path, Path]:
    """A certificate that signs itself, of localhost, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *(words or ["-nodes"])]
    files = ["-keyout", key, "-out", certificate]
    subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", *kind, *files, *subject], check=True, capture_output=True)
    return certificate, key


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def pair(folder: Path) -> tuple[Path, Path]:
    return made(folder, "one")


def refusal(trust: Trust) -> str:
    with pytest.raises(ServiceError) as caught:
        trust.context()
    assert caught.value.code == Code.NOT_PROVISIONED
    return caught.value.message


def test_an_authority_that_is_missing_or_no_pem_is_told_with_its_setting(tmp_path: Path):
    missing = tmp_path / "ca.pem"
    said = refusal(Trust(str(missing), setting=SETTING))
    assert f"{missing}, of MOORAGE_AMQP_CA" in said and "No such file" in said
    missing.write_bytes(b"\xff\x00 no certificate")
    said = refusal(Trust(str(missing), setting=SETTING))
    assert f"{missing}, of MOORAGE_AMQP_CA" in said and "PEM" in said
    missing.write_text("")
    assert "MOORAGE_AMQP_CA" in refusal(Trust(str(missing), setting=SETTING))


def test_a_key_of_another_certificate_is_told_with_both_settings(folder: Path, pair: tuple[Path, Path]):
    _, other = made(folder, "two")
    said = refusal(Trust(None, pair[0], other, setting=SETTING))
    assert "MOORAGE_AMQP_CERTIFICATE and MOORAGE_AMQP_KEY" in said
    assert str(pair[0]) in said and str(other) in said
    assert "mismatch" in said


@pytest.mark.parametrize("which", [0, 1], ids=["certificate", "key"])
def test_a_certificate_or_key_that_is_missing_is_told(pair: tuple[Path, Path], which: int, tmp_path: Path):
    files = list(pair)
    files[which] = tmp_path / "missing"
    said = refusal(Trust(None, *files, setting=SETTING))
    assert "No such file" in said and "MOORAGE_AMQP_KEY" in said


ASKED = """
import fcntl, sys, termios
from pathlib import Path
from broker.login import Trust
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
Trust(None, Path(sys.argv[1]), Path(sys.argv[2]), setting="MOORAGE_AMQP").context()
"""


def test_nobody_is_asked_for_the_passphrase_of_a_key(folder: Path):
    """OpenSSL would ask on the terminal, and a process would stand still until somebody came by."""
    certificate, key = made(folder, "locked", "-passout", "pass:secret")
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", ASKED, certificate, key],
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            start_new_session=True,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert "MOORAGE_AMQP_KEY" in done.stderr and "encrypted" in done.stderr


@contextmanager
def server(pair: tuple[Path, Path], newest: ssl.TLSVersion) -> Iterator[int]:
    """The port of a server that speaks TLS up to `newest` with whoever comes, once."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, newest
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                try:
                    context.wrap_socket(peer, server_side=True).close()
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(20)


def shaken(trust: Trust, port: int, host: str = "localhost") -> str | None:
    """The version of TLS that came about."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        trust.context().wrap_socket(raw, server_hostname=host) as safe,
    ):
        return safe.version()


@pytest.mark.parametrize("old", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=str)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_no_server_talks_us_into_an_old_tls(pair: tuple[Path, Path], old: ssl.TLSVersion):
    trust = Trust(str(pair[0]))
    assert trust.context().minimum_version >= ssl.TLSVersion.TLSv1_2
    with server(pair, old) as port, pytest.raises(ssl.SSLError):
        shaken(trust, port)


def test_tls_comes_about_where_the_certificate_is_of_the_host(pair: tuple[Path, Path]):
    with server(pair, ssl.TLSVersion.TLSv1_2) as port:
        assert shaken(Trust(str(pair[0])), port) == "TLSv1.2"
    with server(pair, ssl.TLSVersion.TLSv1_3) as port, pytest.raises(ssl.SSLCertVerificationError):
        shaken(Trust(str(pair[0])), port, host="elsewhere")


@pytest.mark.parametrize("authorities", [None, SYSTEM])
def test_whom_the_machine_trusts_is_believed_unless_told_otherwise(
    pair: tuple[Path, Path], authorities: str | None
):
    trust = Trust(authorities)
    assert trust.context().verify_mode is ssl.CERT_REQUIRED
    assert trust.context().check_hostname
    with server(pair, ssl.TLSVersion.TLSv1_3) as port, pytest.raises(ssl.SSLCertVerificationError):
        shaken(trust, port)
