"""A pod's sandbox and the CNI calls for it, made as a container runtime makes them."""

import json
import subprocess
import time
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from bench.soak.ledger import Ledger, Violation
from node_worker.netlink import simulated
from schemas.fields import IPAddress

IFNAME = "eth0"
CONF_NAME = "pods"
AGAIN = 11
"""CNI: try again later."""

_HUNG_S = 120
"""More than the executable gives any call."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the runtime was told of an endpoint."""

    addresses: frozenset[IPAddress]
    mac: str


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended; `status` is None where its executable was killed."""

    status: int | None
    body: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether it succeeded, as far as the runtime knows."""
        return self.status == 0

    @property
    def code(self) -> int | None:
        """The code of a failure."""
        code = self.body.get("code")
        return code if isinstance(code, int) else None

    def told(self) -> Told:
        """The result of an ADD."""
        mac = next(one["mac"] for one in self.body["interfaces"] if one.get("sandbox"))
        return Told(frozenset(ip_interface(one["address"]).ip for one in self.body["ips"]), str(mac).lower())


@dataclass(eq=False)
class Sandbox:
    """One namespace and one container id. It is attached once at most: a new attempt is a new sandbox."""

    owner: str
    network: str
    node: str
    socket: Path
    netns: str
    container_id: str
    told: Told | None = None
    """Set while the runtime relies on the endpoint: from a successful ADD until DEL or a successor."""
    exists: bool = False
    """Whether its namespace is there."""

    @property
    def path(self) -> Path:
        """Its namespace."""
        return simulated.netns_path(self.netns)

    def create(self) -> None:
        """Make its namespace."""
        simulated.create_netns(self.netns)
        self.exists = True

    def remove(self) -> None:
        """Remove its namespace."""
        self.told, self.exists = None, False
        simulated.remove_netns(self.netns)


@dataclass(frozen=True)
class Caller:
    """Runs the executable."""

    shim: Path
    ledger: Ledger

    def call(
        self, verb: str, sandbox: Sandbox, *, with_netns: bool = True, kill_after_s: float | None = None
    ) -> Answer:
        """One call. With `kill_after_s` the executable is killed then, unless it has ended by itself."""
        namespace, name = sandbox.owner.split("/")
        env = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": sandbox.container_id,
            "CNI_NETNS": str(sandbox.path) if with_netns else "",
            "CNI_IFNAME": IFNAME,
            "CNI_PATH": "/opt/cni/bin",
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}",
            "MOORAGE_CNI_SOCKET": str(sandbox.socket),
        }
        conf = {"cniVersion": "1.0.0", "name": CONF_NAME, "type": "moorage", "network": sandbox.network}
        begun = time.monotonic()
        status, printed = self._run(env, json.dumps(conf).encode(), kill_after_s)
        body = json.loads(printed) if status is not None and printed.strip() else {}
        answer = Answer(status, body)
        self._note(verb, sandbox, answer, time.monotonic() - begun)
        return answer

    def _run(self, env: dict[str, str], conf: bytes, kill_after_s: float | None) -> tuple[int | None, bytes]:
        process = subprocess.Popen(
            [self.shim], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            printed, _ = process.communicate(conf, timeout=_HUNG_S if kill_after_s is None else kill_after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            if kill_after_s is None:
                self.ledger.violated(Violation("a call hangs", f"{env['CNI_COMMAND']}: {env}"))
            else:
                self.ledger.killed("shim", verb=env["CNI_COMMAND"], container_id=env["CNI_CONTAINERID"])
            return None, b""
        return process.returncode, printed

    def _note(self, verb: str, sandbox: Sandbox, answer: Answer, took_s: float) -> None:
        self.ledger.note(
            verb,
            owner=sandbox.owner,
            node=sandbox.node,
            container_id=sandbox.container_id,
            status=answer.status,
            took_s=round(took_s, 3),
            **({"answer": answer.body} if answer.body else {}),
        )
