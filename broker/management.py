"""RabbitMQ's management HTTP API, with its failures in words."""

import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from broker.login import Where, login
from schemas.errors import Code, ServiceError

_TIMEOUT_S = 15.0


class Management:
    """One client of the API. Every failure is a ServiceError that says what to do and holds no password."""

    def __init__(self, where: Where, *, timeout_s: float = _TIMEOUT_S) -> None:
        """`where` is `http://USER:PASSWORD@HOST:15672`, or https; of several hosts the first that answers is
        asked. Raises `not_provisioned` if it is not.
        """
        access = login(where)
        urls = [_parsed(url, access.place) for url in access.servers()]
        verify = access.trust.context() if urls[0].scheme == "https" else True
        self.hosts = tuple(url.host for url in urls)
        self.encrypted = urls[0].scheme == "https"
        self._user = urls[0].username
        # Proxies and certificates of the environment are no business of a library: trust_env is off.
        self._clients = [
            httpx.Client(
                base_url=url.copy_with(username=None, password=None),
                auth=(url.username, url.password),
                timeout=timeout_s,
                trust_env=False,
                verify=verify,
            )
            for url in urls
        ]
        self._shown = str(self._clients[0].base_url).rstrip("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()

    def get(self, *path: str) -> Any:
        """What is there, or None for nothing."""
        response = self._send("GET", path, None)
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return self._json(self._accepted(response, path))

    def put(self, *path: str, body: Mapping[str, Any] | None = None) -> None:
        """Make or replace something."""
        self._accepted(self._send("PUT", path, body or {}), path)

    def post(self, *path: str, body: Mapping[str, Any]) -> None:
        """Add something."""
        self._accepted(self._send("POST", path, body), path)

    def delete(self, *path: str) -> None:
        """Remove something; that it is gone already is a success."""
        response = self._send("DELETE", path, None)
        if response.status_code != httpx.codes.NOT_FOUND:
            self._accepted(response, path)

    def _send(self, method: str, path: tuple[str, ...], body: Mapping[str, Any] | None) -> httpx.Response:
        target = "api/" + "/".join(quote(part, safe="") for part in path)
        away: list[str] = []
        while True:
            client = self._clients[0]
            self._shown = str(client.base_url).rstrip("/")
            try:
                return self._request(client, method, target, body)
            except ServiceError as error:
                if error.code != Code.UNAVAILABLE:
                    raise
                away.append(error.message)
                if len(self._clients) == 1:
                    raise ServiceError(error.code, "; ".join(away)) from error
                self._clients.pop(0).close()  # whatever is asked may be asked twice

    def _request(
        self, client: httpx.Client, method: str, target: str, body: Mapping[str, Any] | None
    ) -> httpx.Response:
        try:
            return client.request(method, target, json=body)
        except httpx.ProtocolError as error:
            raise ServiceError(
                Code.NOT_PROVISIONED,
                f"{self._shown} does not speak HTTP: is it the port of the management API (15672 by "
                "default), and not the one of AMQP?",
            ) from error
        except httpx.TransportError as error:
            if isinstance(_root(error), ssl.SSLError):
                raise ServiceError(
                    Code.NOT_PROVISIONED,
                    f"no safe connection to {self._shown} ({_root(error)}): the host must be one that the "
                    "server's certificate names, and MOORAGE_AMQP_CA the authority that signed it",
                ) from error
            raise ServiceError(
                Code.UNAVAILABLE,
                f"cannot reach RabbitMQ's management API at {self._shown} ({error}): is RabbitMQ running, "
                "with its plugin on (`rabbitmq-plugins enable rabbitmq_management`)?",
            ) from error

    def _accepted(self, response: httpx.Response, path: tuple[str, ...]) -> httpx.Response:
        if response.is_success:
            return response
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ServiceError(
                Code.SENDER_FORBIDDEN,
                f"RabbitMQ's management API at {self._shown} refused user {self._user}: check user and "
                "password; the user needs the tag administrator",
            )
        raise ServiceError(
            Code.NOT_PROVISIONED,
            f"RabbitMQ's management API at {self._shown} answered {response.status_code} for "
            f"{'/'.join(path)}: {_reason(response)}",
        )

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError as error:
            raise ServiceError(
                Code.NOT_PROVISIONED, f"{self._shown} is no management API of RabbitMQ: it sent no JSON"
            ) from error


def _parsed(url: str, place: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host or not parsed.username:
        raise ServiceError(
            Code.NOT_PROVISIONED,
            f"the management URL{place} cannot be used: it must read http://USER:PASSWORD@HOST:15672 with an "
            "administrator of RabbitMQ (MOORAGE_MANAGEMENT_URL); several HOST:PORT have commas between",
        )
    return parsed


def _root(error: BaseException) -> BaseException:
    """What an error was raised from, in the end."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def _reason(response: httpx.Response) -> str:
    try:
        found = response.json()
    except ValueError:
        return response.reason_phrase
    return str(found.get("reason", found)) if isinstance(found, dict) else str(found)
