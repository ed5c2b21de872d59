"""A RabbitMQ and a MariaDB that speak TLS, with certificates of an authority of the tests' own."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from yarl import URL

from compose.services.identity import ensure_identity
from compose.services.mariadb import MariaDB
from compose.services.ports import reserve
from compose.services.programs import find_programs
from compose.services.rabbitmq import RabbitMQ

NAMED = "127.0.0.1"
UNNAMED = "127.0.0.2"
"""The servers listen here too, but their certificate does not name it."""
_DAYS = "2"


@dataclass(frozen=True)
class Certificate:
    """A PEM certificate and its key."""

    file: Path
    key: Path


@dataclass(frozen=True)
class TlsServices:
    """Both servers, and what their clients need."""

    management_url: str
    database_url: str
    ca: Path
    client: Certificate
    stranger: Path
    """An authority that signed neither server."""

    def settings(self) -> dict[str, str]:
        """What lets our processes in, as settings."""
        names = {"ca": self.ca, "certificate": self.client.file, "key": self.client.key}
        found = {
            f"{server}_{name}": str(file) for server in ("amqp", "database") for name, file in names.items()
        }
        return {**found, "management_url": self.management_url, "database_url": self.database_url}


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=60)


def _authority(folder: Path, name: str) -> Certificate:
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", made.key, "-out", made.file, "-days", _DAYS, "-subj", f"/CN={name}"),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
    )
    return made


def _signed(folder: Path, name: str, by: Certificate, extensions: str) -> Certificate:
    made, request, extra = (
        Certificate(folder / f"{name}.pem", folder / f"{name}.key"),
        folder / "csr",
        folder / "ext",
    )
    _openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", made.key, "-out", request, "-subj", f"/CN={name}"),
    )
    extra.write_text(extensions)
    _openssl(
        *("x509", "-req", "-in", request, "-CA", by.file, "-CAkey", by.key, "-CAcreateserial"),
        *("-days", _DAYS, "-extfile", extra, "-out", made.file),
    )
    return made


@contextmanager
def tls_services(folder: Path) -> Iterator[TlsServices]:
    """Both, in `folder`, while the context lasts."""
    authority, stranger = _authority(folder, "authority"), _authority(folder, "stranger")
    server = _signed(folder, "server", authority, f"subjectAltName=IP:{NAMED}\nextendedKeyUsage=serverAuth\n")
    client = _signed(folder, "client", authority, "extendedKeyUsage=clientAuth\n")
    identity, programs = ensure_identity(folder, data_exists=False), find_programs()
    held = reserve(2, f"tls {identity.node}")
    amqp, management = held.ports
    held.release()
    files = {"cacertfile": authority.file, "certfile": server.file, "keyfile": server.key}
    settings = {
        "listeners.ssl.1": f"{NAMED}:{amqp}",
        "listeners.ssl.2": f"{UNNAMED}:{amqp}",
        "ssl_options.verify": "verify_peer",
        "ssl_options.fail_if_no_peer_cert": "true",
        "management.ssl.port": str(management),
        **{f"ssl_options.{name}": str(file) for name, file in files.items()},
        **{f"management.ssl.{name}": str(file) for name, file in files.items()},
    }
    options = [
        f"--ssl-ca={authority.file}",
        f"--ssl-cert={server.file}",
        f"--ssl-key={server.key}",
        "--require-secure-transport=ON",
        f"--bind-address={NAMED},{UNNAMED}",
    ]
    broker_dir, database_dir = folder / "rabbitmq", folder / "mariadb"
    for place in (broker_dir, database_dir):
        place.mkdir(mode=0o700)
    rabbitmq = RabbitMQ(broker_dir, programs, identity, progress=print, settings=settings)
    mariadb = MariaDB(database_dir, programs, identity, progress=print, extra_options=options)
    with ExitStack() as undo:
        for part in (rabbitmq, mariadb):
            undo.callback(part.stop)
        rabbitmq.launch()
        mariadb.start()
        rabbitmq.wait_until_ready()
        api = URL(rabbitmq.management_url).with_scheme("https").with_port(management)
        yield TlsServices(str(api), mariadb.url(), authority.file, client, stranger.file)
