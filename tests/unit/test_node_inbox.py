"""What the node makes of a nudge."""

from node_worker.inbox import Inbox
from schemas.node import Nudge


async def rung(inbox: Inbox) -> list[str]:
    bells = {
        "networks": inbox.networks,
        "attachments": inbox.attachments,
        "connected": inbox.connected,
    }
    return [name for name, bell in bells.items() if await bell.wait(0.001)]


async def test_a_nudge_about_a_network_asks_nothing_about_attachments() -> None:
    inbox = Inbox()
    inbox.told(Nudge(network="prod", version=3).model_dump_json().encode())
    assert await rung(inbox) == ["networks"]


async def test_a_nudge_about_no_network_asks_about_all() -> None:
    inbox = Inbox()
    inbox.told(Nudge().model_dump_json(exclude_none=True).encode())
    assert await rung(inbox) == ["networks", "attachments"]


async def test_a_nudge_of_a_newer_allocator_asks_about_all() -> None:
    inbox = Inbox()
    inbox.told(b'{"network": {"name": "prod"}}')
    assert await rung(inbox) == ["networks", "attachments"]


async def test_a_queue_that_is_listened_to_again_is_no_nudge() -> None:
    inbox = Inbox()
    inbox.told(None)
    assert await rung(inbox) == ["connected"]
