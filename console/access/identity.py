"""Who somebody is once a token was checked: a name, a role, and for tenants their namespaces."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["viewer", "tenant", "operator"]


@dataclass(frozen=True)
class Identity:
    """Who asks. History names it as the actor of all it changes."""

    name: str
    role: Role
    namespaces: frozenset[str] = frozenset()
    """The Kubernetes namespaces of a tenant; empty for others, who are not confined to any."""

    @property
    def confined(self) -> bool:
        """Whether it sees and changes only what belongs to its namespaces."""
        return self.role == "tenant"
