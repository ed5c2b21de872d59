"""An allocator on the real database, asked directly without a broker: what its tests are made of."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import Engine, text

from allocator.database import Database
from allocator.service import Allocator
from allocator.timers import Timers
from allocator.work import Notice
from broker.outcome import Deferred, Delivery, Dropped, Outcome, Refused, Reply
from schemas.address import AddressAllocate, AddressList, AddressRelease, AddressView, Allocated
from schemas.errors import ServiceError
from schemas.history import HistoryList, HistoryRow
from schemas.message import Message, Query, Request
from schemas.network import NetworkCreate
from schemas.node import NodeReport, NodeSync
from schemas.pool import PoolCreate, PoolView

M = TypeVar("M", bound=Message)
R = TypeVar("R", bound=Request)


def told_of(attached: Allocated, owner: str, container: str = "c1") -> dict[str, Any]:
    """What a node tells the details of, where the allocator does not know this attachment."""
    return {
        "attachment_id": attached.attachment_id,
        "network": attached.network,
        "owner": owner,
        "container_id": container,
        "ifname": "eth0",
        "addresses": [item.address for item in attached.addresses],
        "mac": attached.mac,
    }


class Asked:
    """One allocator and the nodes that it knows."""

    def __init__(self, engine: Engine, nodes: Iterable[str] = ("n1", "n2")) -> None:
        self.engine = engine
        self.database = Database(engine)
        self.notices: list[Notice] = []
        self.allocator = Allocator(self.database, self.committed)
        self.timers = Timers(self.database, self.committed)
        self.sessions = {node: uuid4() for node in nodes}
        self._requests = 0
        for node, session in self.sessions.items():
            self.reply(NodeSync(node=node, session=session))

    def committed(
        self, notices: Sequence[Notice], touched: Collection[int] = (), *, answered: bool = False
    ) -> None:
        """What an outbox would send."""
        self.notices.extend(notices)

    def send(self, request: Request, user: str = "operator.test", reply_to: str | None = "reply") -> Outcome:
        """The outcome of one request in a batch of its own."""
        delivery = Delivery(request, user, reply_to, "correlation", "message")
        serve = self.allocator.answer if isinstance(request, Query) else self.allocator.apply
        return serve([delivery])[0]

    def reply(self, request: Request) -> Any:
        """The answer of a request that must succeed."""
        outcome = self.send(request)
        assert isinstance(outcome, Reply), outcome
        return outcome.message

    def refusal(self, request: Request) -> ServiceError:
        """The error of a request that must be refused."""
        outcome = self.send(request)
        assert isinstance(outcome, Refused), outcome
        return outcome.error

    def deferred(self, request: Request) -> None:
        """A request that starts a job."""
        assert isinstance(self.send(request), Deferred)

    def dropped(self, request: Request) -> None:
        """A request that is not served any more."""
        assert isinstance(self.send(request), Dropped)

    def make(self, kind: type[R], **fields: Any) -> R:
        """A request of this kind, in network prod and under a request_id of its own where it has these."""
        body = {"request_id": self.request_id(), "network": "prod"}
        known = {name: value for name, value in body.items() if name in kind.model_fields}
        return kind.model_validate(known | fields)

    def together(self, *batch: Request) -> list[Outcome]:
        """The outcomes of several requests in one transaction."""
        return self.allocator.apply([Delivery(r, "operator.test", "reply", "c", "m") for r in batch])

    def request_id(self) -> str:
        """One that was not used yet."""
        self._requests += 1
        return f"request-{self._requests}"

    def network(self, name: str = "prod", *cidrs: str, **fields: Any) -> None:
        """An active network on all nodes."""
        subnets = [{"cidr": cidr} for cidr in cidrs or ("10.1.0.0/24",)]
        body = {"request_id": self.request_id(), "network": name, "subnets": subnets}
        self.deferred(NetworkCreate.model_validate(body | fields))
        for node in self.sessions:
            self.report(name, node)

    def report(self, network: str, node: str, result: str = "ready", code: str | None = None) -> None:
        """A node says something of the version that it was told of last."""
        self.reply(self.saying(network, node, result, code))

    def saying(self, network: str, node: str, result: str = "ready", code: str | None = None) -> NodeReport:
        """What a node says of the version that it was told of last."""
        version = next(n.version for n in reversed(self.notices) if n.network == network)
        error = {"code": code, "message": f"{code} on {node}"} if code else None
        body = {"node": node, "session": self.sessions[node], "network": network, "version": version}
        return NodeReport.model_validate(body | {"result": result, "error": error})

    def pool(self, name: str, *ranges: str, policy: str = "pinned", **fields: Any) -> PoolView:
        """A pool of network prod."""
        body = {"request_id": self.request_id(), "network": "prod", "pool": name, "policy": policy}
        answer = self.reply(PoolCreate.model_validate(body | {"ranges": ranges} | fields))
        assert isinstance(answer, PoolView)
        return answer

    def ask(self, owner: str, node: str = "n1", **fields: Any) -> AddressAllocate:
        """An allocate of a new attachment of `owner` in network prod."""
        body = {"network": "prod", "owner": owner, "node": node, "ifname": "eth0", "attachment_id": uuid4()}
        return AddressAllocate.model_validate({"container_id": uuid4().hex} | body | fields)

    def attach(self, owner: str, node: str = "n1", **fields: Any) -> Allocated:
        """A new attachment that must succeed."""
        answer = self.reply(self.ask(owner, node, **fields))
        assert isinstance(answer, Allocated)
        return answer

    def release(self, attachment_id: UUID, node: str = "n1") -> list[str]:
        """What a release of this attachment freed."""
        body = {"network": "prod", "node": node, "container_id": "c", "ifname": "eth0"}
        answer = self.reply(AddressRelease.model_validate(body | {"attachment_id": attachment_id}))
        return [str(address) for address in answer.addresses]

    def pass_time(self, seconds: int) -> None:
        """Make everything that happened to addresses so much longer ago.

        The networks' seq grows with it, as with every change: what an allocator remembers counts no more.
        """
        with self.engine.begin() as connection:
            for table, column in (("allocations", "since"), ("history", "at")):
                statement = f"UPDATE {table} SET {column} = {column} - INTERVAL :s SECOND"  # noqa: S608
                connection.execute(text(statement), {"s": seconds})
            connection.execute(text("UPDATE networks SET seq = seq + 1"))

    def check_used(self) -> int:
        """Assert that every range counts its rows rightly; how many addresses are used in all."""
        counted = (
            "SELECT r.used, (SELECT COUNT(*) FROM allocations a WHERE a.range_id = r.id AND a.pool_id = "
            "r.pool_id AND a.address BETWEEN r.first AND r.last AND a.state <> 'free') FROM ranges r"
        )
        with self.engine.connect() as connection:
            figures = connection.execute(text(counted)).all()
            held = connection.execute(text("SELECT COUNT(*) FROM allocations WHERE state <> 'free'")).scalar()
        assert [used for used, _ in figures] == [rows for _, rows in figures]
        assert sum(used for used, _ in figures) == held
        return int(held or 0)

    def addresses(self, **filters: Any) -> list[AddressView]:
        """All rows of network prod."""
        return list(self.reply(AddressList(network="prod", limit=500, **filters)).addresses)

    def history(self, **filters: Any) -> list[HistoryRow]:
        """All history of network prod."""
        return list(self.reply(HistoryList(network="prod", limit=500, **filters)).rows)


def only(allocated: Allocated) -> str:
    """The one address of an answer."""
    (address,) = allocated.addresses
    return str(address.address)
