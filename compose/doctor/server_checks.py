"""Servers of which there are several: each of them, and what a cluster lacks; and whether TLS is on."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from urllib.parse import urlsplit

from allocator import servers
from broker import audit, inspection
from broker.login import Login
from compose.doctor.site import ANSWER_S, Site
from compose.doctor.verdict import Skipped, State, Verdict, listed, ok, warn
from schemas.errors import ServiceError

_TLS = "have the server speak TLS, and see docs/credentials.md"


def tls(site: Site) -> list[Verdict]:
    """Whether passwords leave this machine unencrypted."""
    found = [
        ("broker", site.settings.broker, _scheme(site.settings.broker) == "amqps"),
        ("management", site.settings.management, _scheme(site.settings.management) == "https"),
        ("database", site.settings.database, _trusts(site.settings.database)),
    ]
    told = [_encrypted(part, login, safe) for part, login, safe in found if login is not None]
    if not told:
        raise Skipped("needs MOORAGE_AMQP_URL, MOORAGE_MANAGEMENT_URL or MOORAGE_DATABASE_URL")
    return told


def broker_servers(site: Site) -> list[Verdict]:
    """Whether each RabbitMQ of the URL lets this user in."""
    each = _each(site.broker)
    if len(each) == 1:
        return [ok("MOORAGE_AMQP_URL names one server")]

    async def look(server: Login) -> str:
        async with asyncio.timeout(ANSWER_S):
            return await inspection.log_in(server)

    async def look_at_all() -> list[str | BaseException]:
        return await asyncio.gather(*map(look, each), return_exceptions=True)

    told = asyncio.run(look_at_all())
    return _verdicts(each, [_said(one, "lets this user in") for one in told])


def members(site: Site) -> Verdict:
    """Whether each replicated queue has all its members, and as many as there are nodes for."""
    lacking = audit.lacking_members(site.management, site.vhost)
    if lacking:
        return warn(
            listed(lacking),
            "start the RabbitMQ nodes that are away; where a queue has too few members, "
            "`rabbitmq-queues grow NODE all` for each node",
        )
    return ok("every replicated queue has all its members")


def database_servers(site: Site) -> list[Verdict]:
    """How each server of the database's URL stands: which takes writes, and whether its cluster is whole."""
    each = _each(site.database)
    if len(each) == 1:
        return [ok("MOORAGE_DATABASE_URL names one server")]
    with ThreadPoolExecutor(len(each)) as pool:
        told = list(pool.map(lambda server: servers.state_of(server, timeout_s=int(ANSWER_S)), each))
    return _verdicts(each, told)


def _each(login: Login) -> list[Login]:
    return [Login(url, login.trust) for url in login.servers()]


def _said(one: str | BaseException, good: str) -> tuple[str, bool]:
    if isinstance(one, str):
        return good, True
    if isinstance(one, TimeoutError):
        return f"no answer within {ANSWER_S:g} s", False
    return (one.message if isinstance(one, ServiceError) else f"{type(one).__name__}: {one}"), False


def _verdicts(each: Iterable[Login], told: list[tuple[str, bool]]) -> list[Verdict]:
    """One for each server. One that fails is a warning while another does its work."""
    bad: State = "warn" if any(good for _, good in told) else "fail"
    advice = "the others are used; start this one, or take it out of the URL"
    return [
        Verdict("ok" if good else bad, text, None if good else advice, part=_place(login))
        for login, (text, good) in zip(each, told, strict=True)
    ]


def _place(login: Login) -> str:
    return urlsplit(login.url()).netloc.rpartition("@")[2]


def _scheme(login: Login | None) -> str:
    return urlsplit(login.servers()[0]).scheme if login else ""


def _trusts(login: Login | None) -> bool:
    return login is not None and login.trust.authorities is not None


def _encrypted(part: str, login: Login, safe: bool) -> Verdict:
    far = [host for host in map(_host, login.servers()) if not _is_loopback(host)]
    if safe or not far:
        return Verdict("ok", "encrypted" if safe else "within this machine", part=part)
    return Verdict("warn", f"the password goes to {listed(far)} unencrypted", _TLS, part=part)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
