"""What people do with addresses, as tests ask it of an allocator on the real database."""

from uuid import UUID

from sqlalchemy import Engine

from schemas.address import (
    AddressQuarantine,
    AddressRebind,
    AddressReleaseByOperator,
    AddressReserve,
    AddressView,
    OwnerAddresses,
)
from tests.integration.allocating import Asked

MAC = "0a:58:0a:01:00:{:02x}"


def two_pools(engine: Engine) -> Asked:
    """Network prod with pinned pools web and db, and a shared one."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/24", owners=["shop/*", "bank/*"])
    made.pool("web", "10.1.0.10-10.1.0.19", owners=["shop/web-*"])
    made.pool("db", "10.1.0.20-10.1.0.24", owners=["shop/*"])
    made.pool("cart", "10.1.0.30-10.1.0.31", policy="shared", owners=["shop/cart-*"])
    return made


def dual_stack(engine: Engine) -> Asked:
    """A dual-stack network prod with a pinned pool."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/24", "fd00:1::/64")
    made.pool("web", "10.1.0.10-10.1.0.19", "fd00:1::10-fd00:1::19", owners=["shop/web-*"])
    made.pool("db", "10.1.0.20-10.1.0.24", "fd00:1::20-fd00:1::24", owners=["shop/*"])
    return made


def reserve(asked: Asked, owner: str, *addresses: str, **fields: object) -> list[str]:
    answer = asked.reply(asked.make(AddressReserve, owner=owner, addresses=addresses, **fields))
    assert isinstance(answer, OwnerAddresses)
    return [str(view.address) for view in answer.addresses]


def rebind(asked: Asked, owner: str, *addresses: str) -> list[AddressView]:
    return list(asked.reply(asked.make(AddressRebind, owner=owner, addresses=addresses)).addresses)


def free(asked: Asked, address: str, **fields: object) -> AddressView:
    request = asked.make(AddressReleaseByOperator, address=address, reason="not needed", **fields)
    answer = asked.reply(request)
    assert isinstance(answer, AddressView)
    return answer


def quarantine(asked: Asked, attachment_id: UUID, address: str, node: str = "n1") -> None:
    body = {"attachment_id": attachment_id, "address": address, "node": node, "reason": "heard twice"}
    asked.reply(asked.make(AddressQuarantine, **body))


def states(asked: Asked) -> dict[str, str]:
    """Every address that was ever used: its state, and whose it is or was."""
    asked.check_used()
    return {str(row.address): f"{row.state} {row.owner}" for row in asked.addresses()}


def events(asked: Asked, address: str) -> list[str]:
    return [row.event.removeprefix("address.") for row in asked.history(address=address)]


# Reserve.
