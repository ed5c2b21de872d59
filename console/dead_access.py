"""How commands come by the dead letters, and by a post to send them with."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from broker.dead_letters.box import Box, letter_box
from broker.dead_letters.post import Post, post
from broker.login import Where
from console.session import Session


class _OpenBox(Protocol):
    def __call__(self, url: Where, *, timeout_s: float) -> AbstractAsyncContextManager[Box]: ...


class _OpenPost(Protocol):
    def __call__(self, url: Where, *, timeout_s: float) -> AbstractAsyncContextManager[Post]: ...


def letters(session: Session) -> AbstractAsyncContextManager[Box]:
    """The box, for as long as the context lasts. If the settings have a `letter_box`, that is used."""
    opener: _OpenBox = getattr(session.settings, "letter_box", letter_box)
    return opener(session.url(), timeout_s=session.timeout_s)


def outgoing(session: Session) -> AbstractAsyncContextManager[Post]:
    """A post, for as long as the context lasts. If the settings have a `post`, that is used."""
    opener: _OpenPost = getattr(session.settings, "post", post)
    return opener(session.url(), timeout_s=session.timeout_s)
