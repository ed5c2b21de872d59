"""Replay, discard and import: history first, then the message, then the letter.

The order is what makes an interruption harmless at any point. What was written down and not done is done by
the next run; what was sent and not taken out is sent again, and requests are idempotent.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

from broker.codec import CONTENT_TYPE, VERSION_HEADER, encode_request
from broker.dead_letters import header
from broker.dead_letters.box import Box, Held
from broker.dead_letters.choosing import Choice
from broker.dead_letters.letter import Letter
from broker.dead_letters.pace import Pace
from broker.dead_letters.post import Post, Posted
from broker.frames import Outgoing
from broker.topology import DEAD, REQUESTS_EXCHANGE, routing_key
from schemas.dead import AUDITED_AT_ONCE, AuditedLetter, AuditEvent, AuditRecord
from schemas.errors import Code, ServiceError
from schemas.requests import why_not

CAP = 5
"""From so many deaths on, a letter is replayed by `force` alone: what mends it was not done."""


@dataclass(frozen=True, slots=True)
class Run:
    """One command: whom it is made for, which letters it means, and why."""

    id: str
    actor: str | None
    choice: Choice
    reason: str | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one letter: taken out of the box, or left in it and why."""

    letter: Letter
    left: str | None = None


Pick = Callable[[Letter], str | None]
"""Why a letter is to be left in the box; None where it is not."""


def why_left(letter: Letter, *, user: str, force: bool) -> str | None:
    """Why `user` cannot replay this letter; None where it can be tried.

    A replay goes out under the operator's name, so what its sender was not allowed to ask is never replayed:
    else a node could have an operator do what it may not do itself.
    """
    if letter.request is None:
        return f"no request has the routing key {letter.routing_key}: discard it"
    if letter.code == Code.SENDER_FORBIDDEN:
        return f"{letter.sender or 'whoever sent it'} was not allowed to ask this: discard it"
    for asking in (letter.sender, user):
        forbidden = why_not(asking, letter.request)
        if forbidden is not None:
            return f"{forbidden}. Discard it: whoever still needs it asks again"
    if letter.deaths >= CAP and not force:
        return f"it died {letter.deaths} times: mend what its reason names, then replay it with --force"
    return None


async def replay(box: Box, post: Post, run: Run) -> AsyncIterator[Sequence[Done]]:
    """Send the chosen letters to the allocator again and take them out; what became of each, batch by batch.

    One that fails again comes back, with its count. Letters that this very run sent are left where they are.
    Live requests of the same networks never wait behind more than a few hundred of these. Raises
    `unavailable`; what was not told of by then is still in the box, or has been sent.
    """
    pace = Pace(post)

    def left(letter: Letter) -> str | None:
        return why_left(letter, user=post.user, force=run.force)

    async for chosen, kept in _chosen(box, run, left):
        await _audit(post, run, "dead.replayed", [held.letter for held in chosen])
        await pace.wait({held.letter.routing_key for held in chosen})
        fates = await post.send([_replayed(held.letter, post.user, run.id) for held in chosen])
        sent = list(zip(chosen, fates, strict=True))
        await box.settle([held for held, fate in sent if fate is None])
        yield [*kept, *(Done(held.letter, _untaken(held.letter, fate)) for held, fate in sent)]


async def discard(box: Box, post: Post, run: Run) -> AsyncIterator[Sequence[Done]]:
    """Take the chosen letters out for good; history keeps what they were. Raises `unavailable`."""
    async for chosen, _ in _chosen(box, run, lambda _: None):
        await _audit(post, run, "dead.discarded", [held.letter for held in chosen])
        await box.settle(chosen)
        yield [Done(held.letter) for held in chosen]


async def restore(post: Post, run: Run, letters: Sequence[Letter]) -> Sequence[Done]:
    """Put letters that were exported back. Raises `unavailable`: which of them are back is not known then."""
    await _audit(post, run, "dead.imported", letters)
    fates = await post.send([_buried(letter, post.user) for letter in letters])
    return [
        Done(letter, None if fate is None else f"{DEAD} did not take it")
        for letter, fate in zip(letters, fates, strict=True)
    ]


async def _chosen(box: Box, run: Run, left: Pick) -> AsyncIterator[tuple[list[Held], list[Done]]]:
    """The letters that `run` means, in batches: those to act on, and those that are left and why."""
    while batch := await box.take(AUDITED_AT_ONCE):
        meant = [held for held in batch if run.choice.fits(held.letter) and held.letter.replay != run.id]
        kept = [(held, left(held.letter)) for held in meant]
        chosen = [held for held, why in kept if why is None]
        told = [Done(held.letter, why) for held, why in kept if why is not None]
        if chosen:
            yield chosen, told
        elif told:
            yield [], told


async def _audit(post: Post, run: Run, event: AuditEvent, letters: Sequence[Letter]) -> None:
    if not letters:
        return
    details = {"run": run.id, "choice": run.choice.told, **({"reason": run.reason} if run.reason else {})}
    record = AuditRecord(
        request_id=uuid4().hex,
        actor=run.actor,
        event=event,
        letters=tuple(_audited(letter) for letter in letters),
        details=details,
    )
    message = encode_request(
        record, user_id=post.user, message_id=uuid4().hex, correlation_id=uuid4().hex, reply_to=None
    )
    (fate,) = await post.send([Posted(REQUESTS_EXCHANGE, routing_key(record), message)])
    if fate is not None:
        raise ServiceError(
            Code.NOT_PROVISIONED,
            f"RabbitMQ does not take {record.NAME}, so nothing was done: run `moorage broker provision`",
        )


def _audited(letter: Letter) -> AuditedLetter:
    def short(text: str | None, most: int) -> str | None:
        return text[:most] if text else None

    return AuditedLetter(
        id=letter.id[:255],
        request=letter.request,
        network=short(letter.network, 63),
        sender=short(letter.sender, 255),
        code=short(letter.code, 64),
        deaths=letter.deaths,
    )


def _replayed(letter: Letter, user: str, run: str) -> Posted:
    headers: dict[str, str | int] = {
        header.SENDER: letter.sender,
        header.FIRST_DEATH: letter.first_death.isoformat(timespec="milliseconds"),
        header.DEATHS: letter.deaths,
        header.REPLAY: run,
        VERSION_HEADER: 1 if letter.version is None else letter.version,
    }
    message = _outgoing(letter, user, headers)
    # What it says of its type was wrong, or it would not lie here under another routing key.
    return Posted(REQUESTS_EXCHANGE, letter.routing_key, replace(message, type=letter.request or ""))


def _buried(letter: Letter, user: str) -> Posted:
    headers: dict[str, str | int] = {
        header.REASON: letter.reason,
        header.CODE: letter.code,
        header.SENDER: letter.sender,
        header.ROUTING_KEY: letter.routing_key,
        header.FIRST_DEATH: letter.first_death.isoformat(timespec="milliseconds"),
        header.LAST_DEATH: letter.last_death.isoformat(timespec="milliseconds"),
        header.DEATHS: letter.deaths,
    }
    if letter.version is not None:
        headers[VERSION_HEADER] = letter.version
    if letter.replay is not None:
        headers[header.REPLAY] = letter.replay
    return Posted(DEAD, "", _outgoing(letter, user, headers))


def _outgoing(letter: Letter, user: str, headers: dict[str, str | int]) -> Outgoing:
    return Outgoing(
        letter.body,
        content_type=letter.properties.get("content_type", CONTENT_TYPE),
        headers=headers,
        correlation_id=letter.properties.get("correlation_id", ""),
        reply_to=None,
        message_id=letter.id,
        type=letter.properties.get("type", letter.request or ""),
        user_id=user,
    )


def _untaken(letter: Letter, fate: Exception | None) -> str | None:
    if fate is None:
        return None
    return f"RabbitMQ did not take it for {letter.routing_key}: see `rabbitmqctl list_queues name state`"
