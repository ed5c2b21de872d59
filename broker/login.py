"""How a process reaches a server: where it is, as whom to log in, and whose certificates to believe.

One URL may name several servers, with commas between: `amqp://USER:PASSWORD@a:5672,b:5672/%2F`. It may lie in
a file, which is read again for each connection: a password that was rotated needs no restart. So are
certificates, which expire sooner than processes do.
"""

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import Code, ServiceError

SYSTEM = "system"
"""Instead of a file with certificates of authorities: those that this machine trusts."""

_AUTHORITY = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL)
_LONGEST = 64 * 1024


@dataclass(frozen=True)
class Trust:
    """Whose certificates to believe, and the certificate to show, as PEM files.

    `setting` is what the settings of these files begin with, for messages.
    """

    authorities: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    setting: str = ""

    def context(self) -> ssl.SSLContext:
        """For a client that verifies the server's certificate and that it is of the host it connects to.

        TLS 1.2 or newer (RFC 8996 has ended what was before). Raises `not_provisioned` where a file cannot
        be used.
        """
        found = None if self.authorities in (None, SYSTEM) else self.authorities
        try:
            context = ssl.create_default_context(cafile=found)
        except OSError as error:
            raise self._unusable(f"{self.setting}_CA", found, error) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate is None:
            return context
        try:
            context.load_cert_chain(self.certificate, self.key, _no_passphrase)
        except OSError as error:
            both = f"{self.setting}_CERTIFICATE and {self.setting}_KEY"
            raise self._unusable(both, f"{self.certificate} and {self.key}", error) from error
        return context

    def _unusable(self, setting: str, what: str | None, error: OSError) -> ServiceError:
        return ServiceError(
            Code.NOT_PROVISIONED,
            f"{what}, of {setting}, cannot be used ({error.strerror or error}): it must be PEM "
            "that this user may read",
        )


def _no_passphrase() -> str:
    """Instead of OpenSSL, which would ask on the terminal for as long as it takes."""
    raise OSError("the key is encrypted, and nobody is here to give its passphrase")


@dataclass(frozen=True)
class Login:
    """A URL with a password, or the file that holds one, and whom to trust there."""

    source: str | Path = field(repr=False)
    trust: Trust = Trust()

    def url(self) -> str:
        """The URL as it is now, with all its servers. Raises `not_provisioned` where its file has none."""
        if isinstance(self.source, str):
            return self.source
        try:
            with self.source.open(encoding="utf-8") as file:
                text = file.read(_LONGEST).strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ServiceError(
                Code.NOT_PROVISIONED,
                f"{self.source}, which must hold a URL, cannot be read ({why}); enrolling with "
                "--url-file writes one",
            ) from error
        if len(text.split()) != 1:
            raise ServiceError(
                Code.NOT_PROVISIONED,
                f"{self.source} must hold one URL and nothing else; enrolling with --url-file writes one",
            )
        return text

    @property
    def place(self) -> str:
        """Where the URL is, to follow its name in a message: nothing, or ` in FILE`."""
        return "" if isinstance(self.source, str) else f" in {self.source}"

    def servers(self) -> list[str]:
        """The same URL for each of its servers, in their order. Raises as `url` does."""
        return each_server(self.url())


Where = str | Login
"""A URL as it is, or a login."""


def login(where: Where) -> Login:
    """`where` as a login; a bare URL believes those whom the machine trusts."""
    return where if isinstance(where, Login) else Login(where)


def each_server(url: str) -> list[str]:
    """One URL for each host that `url` names. What is no URL comes back alone, for others to refuse."""
    match = _AUTHORITY.fullmatch(url)
    if match is None:
        return [url]
    user, at, hosts = match["authority"].rpartition("@")
    return [f"{match['scheme']}{user}{at}{host}{match['rest']}" for host in hosts.split(",")]


def joined(urls: list[str]) -> str:
    """The reverse of `each_server`: one URL with the hosts of all, which differ in nothing else."""
    parts = [match for url in urls if (match := _AUTHORITY.fullmatch(url))]
    if not parts or len(parts) != len(urls):
        return ", ".join(urls)
    hosts = ",".join(part["authority"].rpartition("@")[2] for part in parts)
    user, at, _ = parts[0]["authority"].rpartition("@")
    return f"{parts[0]['scheme']}{user}{at}{hosts}{parts[0]['rest']}"
