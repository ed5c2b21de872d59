"""The console's process: REST and the page over HTTP, or HTTPS where others can reach it."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine, Iterator
from functools import partial
from typing import Any

import structlog
import uvicorn

from broker.metrics import Asked
from broker.rpc import RpcClient, rpc_client
from broker.subscriber import events
from compose.listen_address import split_address
from compose.monitoring import monitored, new_registry
from compose.settings import Settings, need
from console.access.sign_in import SignIns
from console.access.tokens import Tokens
from console.api.application import application
from console.api.desk import Desk
from console.api.guards import RateLimit
from console.api.happenings import Happenings
from console.api.jobs import Jobs
from console.api.letters import Letters
from console.api.site import Site
from console.cluster.access import connect
from console.cluster.client import Cluster
from console.cluster.fencing import keep_fencing
from schemas.errors import Code, ServiceError
from schemas.health import Check, Health

_CLIENT_RATE, _CLIENT_BURST = 100.0, 400
"""Requests a second from one address, and at once: a page with a map asks for a dozen things."""
_FAILURE_RATE, _FAILURE_BURST = 0.2, 20
_CONNECTIONS = 1000
_BACKLOG = 128
_GRACE_S = 5
_KEEP_ALIVE_S = 30

log = structlog.get_logger("moorage")


async def run_console(settings: Settings) -> None:
    """Serve until cancelled. A broker that is away is waited for; requests say so meanwhile.

    Raises ServiceError: `not_provisioned` without a setting, or where others could reach it without tokens
    or TLS; `unavailable` where it cannot listen.
    """
    url = need(settings.broker, "AMQP_URL", "the console asks the allocator over RabbitMQ")
    tokens = Tokens(settings.tokens_file)
    check_exposure(settings, tokens)
    tls = _tls(settings)
    registry = new_registry("console")
    cluster = await _cluster(settings)
    with _bound(settings.console_listen) as listener:
        async with rpc_client(url, name="console", asked=Asked(registry)) as asker:
            happenings, jobs, desk = Happenings(), Jobs(), Desk(asker, settings.timeout_s)
            site = Site(
                desk=desk,
                tokens=tokens,
                sign_ins=SignIns(tokens, settings.console_one_time_token),
                happenings=happenings,
                jobs=jobs,
                letters=Letters(url, desk, timeout_s=settings.timeout_s),
                failures=RateLimit(_FAILURE_RATE, _FAILURE_BURST),
                cluster=cluster,
            )
            async with (
                monitored(settings.monitoring, registry, partial(_ready, asker)),
                _meanwhile("events", happenings.run(partial(events, url, name="console events"))),
                _fencing(cluster, asker),
            ):
                await _serve(site, listener, tls)
                await jobs.close()


def check_exposure(settings: Settings, tokens: Tokens) -> None:
    """Raise `not_provisioned` unless the console may listen where the settings say.

    Within this machine a token is enough. Where others can reach it, there must be TLS, and some token.
    """
    host, _ = split_address(settings.console_listen)
    if bool(settings.console_certificate) != bool(settings.console_key):
        raise ServiceError(
            Code.NOT_PROVISIONED,
            "MOORAGE_CONSOLE_CERTIFICATE and MOORAGE_CONSOLE_KEY belong together: set both, or neither",
        )
    known = tokens.all()  # says so at start where the file cannot be used
    if _is_loopback(host):
        return
    if settings.console_certificate is None:
        raise ServiceError(
            Code.NOT_PROVISIONED,
            f"MOORAGE_CONSOLE_LISTEN {settings.console_listen} can be reached by others, who could read "
            "every token: set MOORAGE_CONSOLE_CERTIFICATE and MOORAGE_CONSOLE_KEY, or listen at 127.0.0.1",
        )
    if not known:
        raise ServiceError(
            Code.NOT_PROVISIONED,
            f"MOORAGE_CONSOLE_LISTEN {settings.console_listen} can be reached by others, and there is no "
            f"token in {settings.tokens_file}: make one with `moorage token create NAME --role operator`",
        )


def _is_loopback(host: str) -> bool:
    """Whether all that a host stands for is within this machine; a name that cannot be resolved is not."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in found)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.console_certificate is None or settings.console_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.console_certificate, settings.console_key)
    except (OSError, ssl.SSLError) as error:
        raise ServiceError(
            Code.NOT_PROVISIONED,
            f"the console's certificate {settings.console_certificate} and key {settings.console_key} cannot "
            f"be used: {error.strerror or error}",
        ) from error
    return context


@contextlib.contextmanager
def _bound(address: str) -> Iterator[socket.socket]:
    host, port = split_address(address)
    try:
        family, kind, proto, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
    except OSError as error:
        raise _cannot_listen(address, error) from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(where)
            listener.listen(_BACKLOG)
        except OSError as error:
            raise _cannot_listen(address, error) from error
        yield listener


def _cannot_listen(address: str, error: OSError) -> ServiceError:
    return ServiceError(
        Code.UNAVAILABLE,
        f"MOORAGE_CONSOLE_LISTEN: cannot listen at {address} ({error.strerror or error}): see `ss -ltnp` "
        "for who does, and choose another address",
    )


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def _serve(site: Site, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
    config = uvicorn.Config(
        application(site, RateLimit(_CLIENT_RATE, _CLIENT_BURST)),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        lifespan="off",
    )
    config.load()
    config.ssl = tls
    server = _Server(config)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    log.info("console listens", address=f"{'https' if tls else 'http'}://{shown}:{port}/")
    serving = asyncio.create_task(server.serve([listener]), name="console")
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise


async def _cluster(settings: Settings) -> Cluster | None:
    """The cluster of the settings. Raises `not_provisioned` where its kubeconfig cannot be used."""
    if settings.kubeconfig is None:
        return None
    api = await asyncio.to_thread(connect, settings.kubeconfig)
    return Cluster(api, settings.timeout_s)


@contextlib.asynccontextmanager
async def _fencing(cluster: Cluster | None, asker: RpcClient) -> AsyncIterator[None]:
    """Fence the nodes that the cluster says are off, while the block runs and if there is a cluster."""
    if cluster is None:
        yield
        return
    async with _meanwhile("fencing", keep_fencing(cluster, asker)):
        yield
    await asyncio.to_thread(cluster.close)


@contextlib.asynccontextmanager
async def _meanwhile(name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` while the block runs. If it fails, the log says so, and the console goes on without it."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_tell_of_failure)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _tell_of_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("part of the console failed: restart it", part=task.get_name(), exc_info=error)


def _ready(asker: RpcClient) -> Health:
    away = "" if asker.connected else "no connection to RabbitMQ: see the log for why"
    return Health.of(Check(name="broker", ok=asker.connected, message=away))
