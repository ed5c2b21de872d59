"""An operator who asks for things all the time and takes them back. Each request must be answered."""

import asyncio
import threading
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from bench.soak.ledger import Ledger, Violation
from bench.soak.plan import Errand, OperatorStep
from bench.soak.world import TUNNELS
from broker.rpc import RpcClient, rpc_client
from schemas.address import AddressReleaseByOperator, AddressReserve, OwnerAddresses
from schemas.errors import Code, ServiceError
from schemas.message import Administrative, Message
from schemas.network import NetworkCreate, NetworkDelete
from schemas.pool import PoolCreate, PoolDelete

ANSWER_S = 240.0
"""Longer than anything is down; whoever is not answered by then never is."""
_ROLLOUT_S = 30

_SPARE = 192
"""The last byte of the first address of TUNNELS that errands make pools of."""
_POOL = 2
_POOLS = 31
_ALLOWED = {
    NetworkCreate: {Code.ROLLOUT_FAILED},  # a node was down
    NetworkDelete: {Code.NETWORK_UNKNOWN},  # after that
    PoolCreate: set[Code](),
}


class Operator:
    """One connection, on a thread of its own."""

    def __init__(self, url: str, ledger: Ledger) -> None:
        self._url, self._ledger = url, ledger
        self._loop = asyncio.new_event_loop()
        self._client: RpcClient
        self._stopping = asyncio.Event()
        self._ready = threading.Event()
        self._errands: list[Future[None]] = []
        self._thread = threading.Thread(target=self._run, name="operator", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()
        self._ready.wait()

    def give(self, step: OperatorStep) -> None:
        """Go on that errand."""
        self._errands.append(asyncio.run_coroutine_threadsafe(self._go(step), self._loop))

    def finish(self) -> None:
        """Wait until all errands are done, and end. Every request in them has its limit."""
        for errand in self._errands:
            errand.result()
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        with self._ledger.blaming("operator"):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        async with rpc_client(self._url, name="soak operator") as self._client:
            self._ready.set()
            await self._stopping.wait()

    async def _go(self, step: OperatorStep) -> None:
        errands: dict[Errand, Callable[[OperatorStep], Coroutine[Any, Any, None]]] = {
            Errand.RESERVE: self._reserve,
            Errand.POOL: self._pool,
            Errand.NETWORK: self._network,
        }
        with self._ledger.blaming(f"{step.errand} {step.number}"):
            await errands[step.errand](step)
            self._ledger.did()

    async def _reserve(self, step: OperatorStep) -> None:
        owner = f"shop/held-{step.number}"
        body = {"request_id": _id(), "network": TUNNELS, "owner": owner}
        held = await self._ask(AddressReserve.model_validate(body))
        await asyncio.sleep(step.stands_s)
        if isinstance(held, OwnerAddresses):
            for one in held.addresses:
                released = AddressReleaseByOperator(
                    request_id=_id(),
                    network=TUNNELS,
                    address=one.address,
                    reason="the soak gives it back",
                    expected_owner=owner,
                )
                await self._ask(released)

    async def _pool(self, step: OperatorStep) -> None:
        name, first = f"spare-{step.number}", _SPARE + _POOL * (step.number % _POOLS)
        span = f"10.79.0.{first}-10.79.0.{first + _POOL - 1}"
        body = {"request_id": _id(), "network": TUNNELS, "pool": name, "policy": "shared", "ranges": [span]}
        made = await self._ask(PoolCreate.model_validate(body))
        await asyncio.sleep(step.stands_s)
        if made is not None:
            body = {"request_id": _id(), "network": TUNNELS, "pool": name}
            await self._ask(PoolDelete.model_validate(body))

    async def _network(self, step: OperatorStep) -> None:
        name, limit = f"brief-{step.number}", {"deadline_s": _ROLLOUT_S}
        subnets = [{"cidr": f"10.80.{step.number % 256}.0/24"}]
        body = {"request_id": _id(), "network": name, "subnets": subnets}
        await self._ask(NetworkCreate.model_validate(body | limit))
        await asyncio.sleep(step.stands_s)
        await self._ask(NetworkDelete.model_validate({"request_id": _id(), "network": name} | limit))

    async def _ask(self, request: Administrative) -> Message | None:
        """The answer; None for a "no" that was to be expected."""
        what = f"{request.NAME} {request.request_id}"
        confirmed: list[bool] = []
        try:
            answer = await self._client.ask(request, timeout_s=ANSWER_S, taken=lambda: confirmed.append(True))
        except ServiceError as error:
            self._ledger.note("refused", request=what, code=str(error.code), message=error.message)
            if error.code in (Code.TIMEOUT, Code.UNAVAILABLE):
                seen = f"{what}, {'confirmed' if confirmed else 'not confirmed'}: {error.message}"
                self._ledger.violated(Violation("a request was not answered", seen))
            elif error.code not in _ALLOWED.get(type(request), ()):
                self._ledger.violated(Violation("a request was refused", f"{what}: {error.message}"))
            return None
        self._ledger.note("answered", request=what)
        return answer


def _id() -> str:
    return uuid.uuid4().hex
