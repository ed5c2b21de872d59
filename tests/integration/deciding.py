"""The stage of docs/addresses.md on the real database, and how each phrase of its table is played on it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Engine, text

from allocator.restoring import declare_restored
from broker.outcome import Delivery, Dropped, Outcome, Refused, Reply
from schemas.address import (
    AddressAllocate,
    AddressList,
    AddressQuarantine,
    AddressRebind,
    AddressRelease,
    AddressReleaseByOperator,
    AddressView,
    Allocated,
    Released,
)
from schemas.history import HistoryList, HistoryRow
from schemas.message import Done, Request
from schemas.network import NetworkCreate, NetworkUpdate
from schemas.pool import AddressRange, PoolCreate, PoolList, PoolUpdate
from tests.decision_table import Page, Phrase
from tests.integration.allocating import Asked

Row = Mapping[str, str]
EVERYBODY, PENDING = "everybody", "soon"
ELSEWHERE = ip_network("fd00:9::/64")
"""Where an IPv6 address lies that is named in a network without any."""


class Stage:
    """An allocator with the networks and pools of the page, and the attachments that rows name."""

    def __init__(self, engine: Engine, page: Page) -> None:
        self.asked = Asked(engine, ["n1"])
        self._subnets = {_name(row): _subnets(row) for row in page.networks}
        self._ids: dict[str, UUID] = {}
        for row in page.networks:
            self._make_network(row)
        for row in page.pools:
            self._make_pool(row)

    # The stage.

    def _make_network(self, row: Row) -> None:
        name, definition = _name(row), {"subnets": _subnets(row), "owners": _owners(row)}
        if name == PENDING:  # no node has reported yet
            body = {"request_id": name, "network": name} | definition
            self.asked.deferred(NetworkCreate.model_validate(body))
        else:
            self.asked.network(name, **definition)

    def _make_pool(self, row: Row) -> None:
        pool, network = row["pool"].replace("`", "").split(" of ")
        ranges = [self._range(network, part) for part in row["addresses"].split(", ")]
        if pool == "default":
            return
        body = {"network": network, "pool": pool, "policy": row["policy"], "owners": _owners(row)}
        body |= {"request_id": f"{network}-{pool}", "ranges": ranges, "allow_mac": row["own MACs"] == "yes"}
        self.asked.reply(PoolCreate.model_validate(body))

    def pools(self, network: str) -> dict[str, set[str]]:
        """The ranges of the pools of a network as they are."""
        pools = self.asked.reply(PoolList(network=network)).pools
        return {pool.pool: {str(part) for part in pool.ranges} for pool in pools}

    def pools_of_page(self, page: Page, network: str) -> dict[str, set[str]]:
        """The same as the page has them."""
        found = {}
        for row in page.pools:
            pool, of = row["pool"].replace("`", "").split(" of ")
            if of == network:
                found[pool] = {str(self._range(of, part)) for part in row["addresses"].split(", ")}
        return found

    def _range(self, network: str, span: str) -> AddressRange:
        first, last = (self.address(end, network) for end in span.split("-"))
        return AddressRange.model_validate(f"{first}-{last}")

    def address(self, written: str, network: str = "prod") -> str:
        """An address as the page writes it, in full."""
        if not written.startswith((".", ":")):
            return written
        version = 4 if written.startswith(".") else 6
        nets = [ip_network(subnet["cidr"]) for subnet in self._subnets.get(network, self._subnets["prod"])]
        base = next((net for net in nets if net.version == version), ELSEWHERE)
        number = int(written.strip(".")) if version == 4 else int(ip_address(written))
        return str(base.network_address + number)

    def _full(self, phrase: Phrase, network: str = "prod") -> list[str]:
        return [self.address(written, network) for written in phrase.addresses()]

    def id_of(self, attachment: str) -> UUID:
        """The attachment_id of A1, A2 ...; without a name a new one."""
        return self._ids.setdefault(attachment, uuid4()) if attachment else uuid4()

    # What is asked.

    def request(self, phrase: Phrase) -> Request:
        """The request that a row asks."""
        network = phrase.get("network", "prod")
        attachment_id = self.id_of(phrase.get("attachment"))
        body: dict[str, Any] = {"network": network, "node": phrase.get("node")}
        match phrase.kind:
            case "allocate":
                return self._allocate(phrase)
            case "quarantine":
                (address,) = self._full(phrase, network)
                body |= {"attachment_id": attachment_id, "address": address, "reason": "heard twice"}
                return AddressQuarantine.model_validate(body)
            case "release":
                body["attachment_id"] = attachment_id
        body |= {"container_id": attachment_id.hex, "ifname": phrase.get("ifname", "eth0")}
        return AddressRelease.model_validate(body)

    def _allocate(self, phrase: Phrase) -> AddressAllocate:
        network, attachment_id = phrase.get("network", "prod"), self.id_of(phrase.get("attachment"))
        late = phrase.text.endswith(", too late")
        return AddressAllocate(
            network=network,
            pool=phrase.words.get("pool"),
            owner=phrase.get("owner"),
            node=phrase.get("node"),
            container_id=attachment_id.hex,
            ifname=phrase.get("ifname", "eth0"),
            attachment_id=attachment_id,
            deadline=datetime.now(UTC) + timedelta(hours=-1 if late else 1),
            addresses=tuple(ip_address(address) for address in self._full(phrase, network)),
            mac=phrase.words.get("mac"),
        )

    def ask(self, *requests: Request) -> list[Outcome]:
        """The outcomes of these requests in one batch."""
        deliveries = [Delivery(request, "operator.test", "reply", "c", "m") for request in requests]
        return self.asked.allocator.apply(deliveries)

    def answers(self, phrase: Phrase, outcome: Outcome) -> None:
        """Assert that this is the answer that a row tells."""
        match outcome:
            case Dropped():
                assert phrase.kind == "dropped"
            case Refused(error):
                assert (phrase.get("code"), ", retryable" in phrase.text) == (error.code, error.retryable)
                if phrase.kind == "exhausted":
                    self._figures(phrase, error.fields)
            case Reply(Allocated() as answer):
                self._given(phrase, answer)
            case Reply(Released(addresses=freed)):
                assert phrase.kind in ("freed", "nothing_freed")
                assert [str(address) for address in freed] == self._full(phrase, self._network_of(freed))
            case Reply(Done()):
                assert phrase.kind == "done"
            case _:
                raise AssertionError(outcome)

    def _network_of(self, addresses: Sequence[Any]) -> str:
        for name, subnets in self._subnets.items():
            if any(address in ip_network(net["cidr"]) for net in subnets for address in addresses):
                return name
        return "prod"

    def _figures(self, phrase: Phrase, fields: Mapping[str, Any]) -> None:
        assert (fields["used"], fields["total"]) == (int(phrase.get("number")), int(phrase.get("total")))
        holders = phrase.words["holders"].split(", ") if "holders" in phrase.words else []
        assert [holder["owner"] for holder in fields["holders"]] == holders

    def _given(self, phrase: Phrase, answer: Allocated) -> None:
        assert phrase.kind == "allocated"
        given = [str(address.address) for address in answer.addresses]
        assert given == self._full(phrase, answer.network)
        replaced = [self.id_of(phrase.get("attachment"))] if "attachment" in phrase.words else []
        assert list(answer.replaces) == replaced
        assert answer.pool == phrase.get("pool", answer.pool)
        assert answer.mac == phrase.get("mac", answer.mac)

    # What happened before.

    def bring_about(self, phrase: Phrase) -> None:
        """Make one sentence of a situation true, by requests as anybody could send them."""
        getattr(self, f"_{phrase.kind}")(phrase)

    def _attached(self, phrase: Phrase) -> None:
        answer = self.asked.reply(self._allocate(phrase))
        given = [str(address.address) for address in answer.addresses]
        assert given == self._full(phrase, answer.network)

    def _detach(self, attachment: str, node: str = "n1") -> None:
        phrase = Phrase("release", {"attachment": attachment, "node": node}, "")
        self.asked.reply(self.request(phrase))

    def _released(self, phrase: Phrase) -> None:
        self._detach(phrase.get("attachment"), phrase.get("node"))

    def _quarantined_by(self, phrase: Phrase) -> None:
        words = phrase.words
        self.asked.reply(self.request(Phrase("quarantine", words, phrase.text)))

    def _once(self, phrase: Phrase) -> str:
        """Attach the owner at its address, under a name of its own; the name."""
        name = f"past {phrase.get('owner')} {phrase.addresses()}"
        self._attached(Phrase("attached", dict(phrase.words) | {"node": "n1", "attachment": name}, ""))
        return name

    def _waits(self, phrase: Phrase) -> None:
        self._detach(self._once(phrase))

    def _just_freed(self, phrase: Phrase) -> None:
        self._detach(self._once(phrase))
        (address,) = self._full(phrase)
        body = {"network": "prod", "address": address, "reason": "not needed", "request_id": uuid4().hex}
        self.asked.reply(AddressReleaseByOperator.model_validate(body))

    def _long_free(self, phrase: Phrase) -> None:
        self._just_freed(phrase)
        (address,) = self._full(phrase)
        with self.asked.engine.begin() as connection:
            connection.execute(
                text("UPDATE allocations SET since = since - INTERVAL :hours HOUR WHERE HEX(address) = :raw"),
                {"hours": int(phrase.get("number")), "raw": _raw(address)},
            )
            connection.execute(text("UPDATE networks SET seq = seq + 1"))

    def _quarantined(self, phrase: Phrase) -> None:
        words = dict(phrase.words) | {"attachment": self._once(phrase), "node": "n1"}
        self.asked.reply(self.request(Phrase("quarantine", words, "")))

    def _moved(self, phrase: Phrase) -> None:
        body = {"network": "prod", "owner": phrase.get("owner"), "addresses": self._full(phrase)}
        self.asked.reply(AddressRebind.model_validate(body | {"request_id": uuid4().hex}))

    def _restored(self, phrase: Phrase) -> None:
        declare_restored(self.asked.engine)

    def _pool_closed(self, phrase: Phrase) -> None:
        body = {"network": "prod", "pool": phrase.get("pool"), "owners": [phrase.get("pattern")]}
        self.asked.reply(PoolUpdate.model_validate(body | {"request_id": uuid4().hex}))

    def _network_closed(self, phrase: Phrase) -> None:
        name = phrase.get("network")
        body = {"network": name, "owners": [phrase.get("pattern")], "request_id": uuid4().hex}
        self.asked.deferred(NetworkUpdate.model_validate(body))
        for node in self.asked.sessions:
            self.asked.report(name, node)

    # What is otherwise afterwards.

    def rows(self) -> dict[str, AddressView]:
        """All addresses that were ever used, by address."""
        found: list[AddressView] = []
        for network in self._subnets:
            found += self.asked.reply(AddressList(network=network, limit=500)).addresses
        return {str(row.address): row for row in found}

    def history(self) -> list[HistoryRow]:
        """All that happened to addresses and attachments."""
        found: list[HistoryRow] = []
        for network in self._subnets:
            found += self.asked.reply(HistoryList(network=network, limit=500)).rows
        return [row for row in found if row.event.startswith("address.")]

    def expected(self, phrase: Phrase, network: str) -> dict[str, dict[str, Any]]:
        """What a phrase of the last column says of which addresses."""
        there = ("node", "attachment_id", "container_id")
        said: dict[str, Any] = {"state": phrase.kind} | dict.fromkeys(there)
        match phrase.kind:
            case "unchanged" | "ended":
                return {}
            case "attached":
                attachment_id = self.id_of(phrase.get("attachment"))
                said |= {"owner": phrase.get("owner"), "node": phrase.get("node")}
                said |= {"attachment_id": attachment_id, "container_id": attachment_id.hex}
            case "waits":
                said |= {"owner": phrase.get("owner"), "state": "waiting"}
        return dict.fromkeys(self._full(phrase, network), said)

    def has_ended(self, attachment: str) -> bool:
        """Whether an attachment gets nothing any more, whatever it asks."""
        words = {"owner": "shop/web-9", "node": "n1", "attachment": attachment}
        (outcome,) = self.ask(self._allocate(Phrase("allocate", words, "")))
        return isinstance(outcome, Refused) and outcome.error.code == "attachment_released"


def _name(row: Row) -> str:
    return row["network"].strip("`")


def _owners(row: Row) -> list[str]:
    return [] if row["owners"] == EVERYBODY else row["owners"].replace("`", "").split(", ")


def _subnets(row: Row) -> list[dict[str, str]]:
    parts = row["subnets"].split(", ")
    gateway = next((part.split()[1] for part in parts if part.startswith("gateway")), None)
    subnets = [{"cidr": part} for part in parts if not part.startswith("gateway")]
    if gateway is not None:
        subnets[0]["gateway"] = gateway
    return subnets


def _raw(address: str) -> str:
    parsed = ip_address(address)
    prefix = "0" * 20 + "FFFF" if parsed.version == 4 else ""
    return prefix + parsed.packed.hex().upper()
