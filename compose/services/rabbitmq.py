"""A private RabbitMQ: one node with its management API, on loopback ports and data of its own."""

import base64
import http.client
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from compose.services.epmd import Epmd
from compose.services.identity import Identity
from compose.services.ports import reserve
from compose.services.process import Child
from compose.services.programs import Programs
from compose.services.rabbitmq_node import ADMIN, Ports, environment, write_configuration
from compose.services.starting import outlast_thefts

NAME = "RabbitMQ"

_READY_S = 120
_GRACE_S = 20  # versions before 3.13 take 6 s: their management plugin waits 5 s for nothing
_TRIES = 3


class RabbitMQ:
    """One broker in `folder`. After `kill` or `stop` it starts again on the same ports and data."""

    def __init__(
        self,
        folder: Path,
        programs: Programs,
        identity: Identity,
        *,
        progress: Callable[[str], None],
        keep: Sequence[int] = (),
        settings: Mapping[str, str] = MappingProxyType({}),
        beside: "RabbitMQ | None" = None,
    ) -> None:
        """`keep` are descriptors that the processes inherit; `settings` of rabbitmq.conf are added to ours.

        Nodes of one cluster must find each other: those that are started `beside` one use its epmd.
        """
        self._settings, self._beside = settings, beside
        self._folder, self._programs, self._identity = folder, programs, identity
        self._progress, self._keep = progress, tuple(keep)
        self._ports: Ports | None = None
        self._epmd: Epmd | None = None
        self._server: Child | None = None
        self._launched = 0.0
        self._tries = _TRIES

    @property
    def ports(self) -> Ports:
        """Where it listens. Raises `RuntimeError` before the first start."""
        if self._ports is None:
            raise RuntimeError("RabbitMQ was not started yet")
        return self._ports

    @property
    def amqp_url(self) -> str:
        """AMQP as the administrator, virtual host `/`."""
        return f"amqp://{ADMIN}:{self._identity.broker_password}@127.0.0.1:{self.ports.amqp}/"

    @property
    def management_url(self) -> str:
        """The management API as the administrator."""
        return f"http://{ADMIN}:{self._identity.broker_password}@127.0.0.1:{self.ports.management}"

    @property
    def pids(self) -> list[int]:
        """The processes that run: the broker and its epmd."""
        own = (self._server, self._epmd if self._beside is None else None)
        return [part.pid for part in own if part and part.pid is not None]

    def start(self) -> None:
        """Start it and wait until it serves. Raises `NotStarted`."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start it without waiting: `wait_until_ready` must follow. Raises `NotStarted`."""
        self._launched = time.monotonic()
        reservation = None if self._ports else reserve(len(Ports._fields), self._identity.node)
        ports = self._ports = Ports(*reservation.ports) if reservation else self.ports
        if self._beside is not None:
            ports = self._ports = ports._replace(epmd=self._beside.ports.epmd)
        write_configuration(self._folder, self._identity, ports, self._settings)
        env = environment(self._folder, self._identity.node, ports)
        if reservation:
            reservation.release()
        if self._beside is not None:
            self._epmd = self._beside._epmd
        elif self._epmd is None:
            self._epmd = Epmd(self._programs.epmd, self._folder, ports.epmd, env=env, keep=self._keep)
        if self._epmd is None:
            raise RuntimeError("the node beside which this one runs was not started yet")
        self._epmd.ensure()
        script, log = self._programs.rabbitmq_server, self._folder / "rabbitmq.log"
        self._server = Child(NAME, [script], env=env, log=log, keep=self._keep)
        self._server.start()

    def wait_until_ready(self) -> None:
        """Wait until it serves AMQP; it is stopped if it does not. Raises `NotStarted`.

        Ports are replaced at the first start only: later they are part of our URLs.
        """
        outlast_thefts(self._wait, self.stop, self._relaunch_elsewhere, self._tries)
        self._tries = 1
        where, seconds = f"127.0.0.1:{self.ports.amqp}", time.monotonic() - self._launched
        self._progress(f"{NAME}: ready on {where} after {seconds:.1f} s")

    def terminate(self) -> None:
        """Ask the broker to stop; returns at once."""
        if self._server:
            self._server.terminate()

    def stop(self) -> None:
        """Stop the broker and then its epmd; does nothing if they do not run."""
        try:
            if self._server:
                self._server.stop(_GRACE_S)
        finally:
            if self._epmd and self._beside is None:
                self._epmd.stop()

    def kill(self) -> None:
        """SIGKILL the broker alone, as a crash would."""
        if self._server:
            self._server.kill()

    def _wait(self) -> None:
        if self._server is None or self._epmd is None:
            raise RuntimeError("RabbitMQ was not launched")
        epmd = self._epmd

        def probe() -> str | None:
            epmd.check()  # without it, whatever the node does or says is a consequence
            return self._probe()

        self._server.wait_until_ready(probe, limit_s=_READY_S, poll_s=0.1)

    def _relaunch_elsewhere(self) -> None:
        self._progress(f"{NAME}: one of its ports was taken meanwhile, trying others")
        self._ports = self._epmd = None
        self.launch()

    def _probe(self) -> str | None:
        """Ask our own node, which alone knows the password, whether its AMQP listener is open."""
        credentials = base64.b64encode(f"{ADMIN}:{self._identity.broker_password}".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.ports.management, timeout=5)
        try:
            connection.request(
                "GET",
                f"/api/health/checks/port-listener/{self.ports.amqp}",
                headers={"Authorization": f"Basic {credentials}"},
            )
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return f"its management API: {error}"
        finally:
            connection.close()
        return None if status == http.HTTPStatus.OK else f"its management API answers {status}"
