"""RabbitMQ's management HTTP API, with its failures in words."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from schemas.errors import Code, ServiceError

_TIMEOUT_S = 15.0


class Management:
    """One client of the API. Every failure is a ServiceError that says what to do and holds no password."""

    def __init__(self, url: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        """`url` is `http://USER:PASSWORD@HOST:15672`. Raises `not_provisioned` if it is not."""
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, TypeError):
            parsed = httpx.URL()
        if parsed.scheme not in ("http", "https") or not parsed.host or not parsed.username:
            raise ServiceError(
                Code.NOT_PROVISIONED,
                "the management URL cannot be used: it must read http://USER:PASSWORD@HOST:15672 with an "
                "administrator of RabbitMQ (MOORAGE_MANAGEMENT_URL)",
            )
        plain = parsed.copy_with(username=None, password=None)
        self.host = parsed.host
        self._shown = str(plain).rstrip("/")
        self._user = parsed.username
        # Proxies and certificates of the environment are no business of a library: trust_env is off.
        self._client = httpx.Client(
            base_url=plain, auth=(parsed.username, parsed.password), timeout=timeout_s, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

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
        try:
            return self._client.request(method, target, json=body)
        except httpx.ProtocolError as error:
            raise ServiceError(
                Code.NOT_PROVISIONED,
                f"{self._shown} does not speak HTTP: is it the port of the management API (15672 by "
                "default), and not the one of AMQP?",
            ) from error
        except httpx.TransportError as error:
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


def _reason(response: httpx.Response) -> str:
    try:
        found = response.json()
    except ValueError:
        return response.reason_phrase
    return str(found.get("reason", found)) if isinstance(found, dict) else str(found)
