"""What a form of ours sends: short texts by name."""

import re
from collections.abc import Mapping

from fastapi import Request

_LONGEST = 10_000


class Fields:
    """The texts of a form. What was left out is empty."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def text(self, name: str) -> str:
        """One text, without blanks around it."""
        return self._texts.get(name, "").strip()[:_LONGEST]

    def words(self, name: str) -> list[str]:
        """A text's words, with blanks or commas between."""
        return [word for word in re.split(r"[\s,]+", self.text(name)) if word]

    def flag(self, name: str) -> bool:
        """Whether a box was ticked."""
        return bool(self.text(name))

    def all(self) -> dict[str, str]:
        """All texts, to be shown again."""
        return {name: text for name, text in self._texts.items() if name != "csrf"}


async def fields(request: Request) -> Fields:
    """The form of a request; files are no part of any form of ours."""
    form = await request.form()
    return Fields({name: value for name, value in form.items() if isinstance(value, str)})
