"""Which dead letters are meant."""

from dataclasses import dataclass
from datetime import datetime

from broker.dead_letters.letter import Letter


@dataclass(frozen=True, slots=True)
class Choice:
    """All letters that every part of it fits.

    `ids` are ids or what they begin with; `before` and `since` are about the first death, `died_by` about the
    last one. `replay` is a run of replays that they came back from.
    """

    ids: tuple[str, ...] = ()
    request: str | None = None
    network: str | None = None
    node: str | None = None
    sender: str | None = None
    code: str | None = None
    reason: str | None = None
    before: datetime | None = None
    since: datetime | None = None
    died_by: datetime | None = None
    replay: str | None = None

    def fits(self, letter: Letter) -> bool:
        """Whether this letter is meant. `reason` is a part of its reason, in any case of letters."""
        return (
            (not self.ids or letter.id.startswith(self.ids))
            and self.request in (None, letter.request)
            and self.network in (None, letter.network)
            and self.node in (None, letter.node)
            and self.sender in (None, letter.sender)
            and self.code in (None, letter.code)
            and (self.reason is None or self.reason.lower() in letter.reason.lower())
            and (self.before is None or letter.first_death < self.before)
            and (self.since is None or letter.first_death >= self.since)
            and (self.died_by is None or letter.last_death <= self.died_by)
            and self.replay in (None, letter.replay)
        )

    @property
    def told(self) -> dict[str, object]:
        """Its parts, by name, for history."""
        values = ((name, getattr(self, name)) for name in self.__dataclass_fields__)
        parts = ((name, v.isoformat() if isinstance(v, datetime) else v) for name, v in values)
        return {name: value for name, value in parts if value}
