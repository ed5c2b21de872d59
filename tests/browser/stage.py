"""The whole product with a console, a cluster's stand-in, and people who look at the page."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pika
from playwright.sync_api import Browser

from bench.browser import chromium
from broker import provisioning
from broker.topology import REQUESTS_EXCHANGE, routing_key
from compose.local_console import LocalConsole, local_console
from console.access.identity import Role
from console.access.tokens import Tokens
from schemas.message import Request
from tests.acceptance.machines import Machine, Pod, machine_of
from tests.browser.browsing import Visitor
from tests.kubernetes_api import KubernetesApi, kubernetes_api

T = TypeVar("T")
LIMIT_S = 90


class Runtime:
    """A pod as its container runtime has it: attached and detached through the CNI executable.

    All in another thread: Playwright's event loop runs in a test's own, where no other may run.
    """

    def __init__(self, stage: "Stage", owner: str, node: str, network: str) -> None:
        self._aside = stage.aside
        self._pod = self._aside(lambda: Pod(stage.machine, owner, node, network))

    def add(self) -> None:
        """An ADD that must succeed."""
        self._aside(self._pod.add)

    def delete(self) -> None:
        """A DEL that must succeed."""
        self._aside(self._pod.delete)


@dataclass(frozen=True)
class Stage:
    """What a test plays on."""

    machine: Machine
    console: LocalConsole
    cluster: KubernetesApi
    browser: Browser
    threads: ThreadPoolExecutor

    def aside(self, work: Callable[[], T]) -> T:
        """What `work` returns, in another thread."""
        return self.threads.submit(work).result(LIMIT_S)

    def token(self, name: str, role: Role, *namespaces: str) -> str:
        """A new token."""
        return Tokens(self.console.tokens_file).create(name, role, namespaces)

    def visitor(self, token: str, **options: object) -> Visitor:
        """A browser in which somebody signed in."""
        found = Visitor(self.browser, self.console.url, **options)
        page = found.visit("/sign-in")
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/networks")
        return found

    def pod(self, owner: str, node: str, network: str) -> Runtime:
        """A sandbox that may be attached."""
        return Runtime(self, owner, node, network)

    def send_unanswered(self, request: Request) -> None:
        """Send a request whose sender does not wait: a refusal makes it a dead letter."""
        url = provisioning.enroll_client(
            self.machine.stack.servers.management_url, "unheard", "producer", rotate=True
        ).amqp_url
        parameters = pika.URLParameters(url)
        connection = pika.BlockingConnection(parameters)
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish(
                REQUESTS_EXCHANGE,
                routing_key(request),
                request.model_dump_json(),
                mandatory=True,
                properties=pika.BasicProperties(
                    type=request.NAME,
                    content_type="application/json",
                    delivery_mode=2,
                    message_id=f"unheard-{request.NAME}",
                    user_id=parameters.credentials.username,
                    headers={"schema_version": request.VERSION},
                ),
            )
        finally:
            connection.close()


@contextmanager
def stage(folder: Path, shim: Path) -> Iterator[Stage]:
    """Two nodes, a console that knows a cluster, and Chromium."""
    with (
        machine_of(folder / "m", shim) as machine,
        kubernetes_api() as cluster,
        local_console(machine.stack, str(cluster.kubeconfig(folder))) as console,
        ThreadPoolExecutor(1) as threads,
        chromium() as browser,
    ):
        yield Stage(machine, console, cluster, browser, threads)
