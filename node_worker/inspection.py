"""A node looked at from beside its worker: what the journal holds, and links that it does not know of.

Changes nothing. The worker keeps its journal locked, so a copy of it is read.
"""

import re
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from node_worker import attachments, networks
from node_worker.attachments import Attachment
from node_worker.journal import SCHEMA_VERSION
from node_worker.netlink import parents
from node_worker.netlink.namespace import Netns, own
from node_worker.netlink.session import inside, named_links
from node_worker.networks import NetworkRow
from node_worker.plan import NETWORK_LINKS, bridge_name, tunnel_name
from schemas.errors import Code, ServiceError
from schemas.network import NetworkDefinition

_HOST_LINK = re.compile(r"mo[0-9a-f]{13}")
_VLAN = re.compile(r".+\.[0-9]{1,4}|mv[0-9a-f]{12}")
_TRIES = 20
_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class JournalSeen:
    """What the journal held at one moment. `owed`: the numbers of releases that are not answered yet."""

    attachments: tuple[Attachment, ...]
    owed: frozenset[int]
    networks: tuple[NetworkRow, ...]


def read_journal(path: Path) -> JournalSeen:
    """What the journal at `path` holds. Raises ServiceError where it cannot be read."""
    try:
        with TemporaryDirectory(prefix="moorage-") as folder:
            copy = Path(folder, path.name)
            for _ in range(_TRIES):
                if _copied(path, copy) and (seen := _read(copy)) is not None:
                    return seen
                time.sleep(_PAUSE_S)
    except FileNotFoundError as error:
        raise _unreadable(
            path, "there is none", "has `moorage node` run here, and with this MOORAGE_NODE_DIR?"
        ) from error
    except (OSError, sqlite3.Error) as error:
        raise _unreadable(path, str(error), "see that it is readable, and that its disk has room") from error
    raise _unreadable(
        path, "it changes all the time, or is damaged", "run this again when the node has less to do"
    )


def _copied(path: Path, copy: Path) -> bool:
    """Copy the file and its log; whether nobody wrote to either meanwhile."""
    log, log_copy = (Path(f"{file}-wal") for file in (path, copy))
    for old in (*copy.parent.iterdir(),):
        old.unlink()
    before = _state(path, log)
    shutil.copyfile(path, copy)
    if log.exists():
        shutil.copyfile(log, log_copy)
    return _state(path, log) == before


def _state(*paths: Path) -> list[tuple[int, int]]:
    facts = [path.stat() for path in paths if path.exists()]
    return [(fact.st_mtime_ns, fact.st_size) for fact in facts]


def _read(copy: Path) -> JournalSeen | None:
    """None where the copy is not whole."""
    with closing(sqlite3.connect(copy)) as connection:
        try:
            (health,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError:
            return None
        if health != "ok":
            return None
        if version != SCHEMA_VERSION:
            raise ServiceError(
                Code.INTERNAL,
                f"the journal has schema {version}, and this version reads {SCHEMA_VERSION}: look with the "
                "version that the node worker runs",
            )
        return JournalSeen(
            tuple(attachments.everything(connection)),
            frozenset(release.id for release in attachments.owed(connection)),
            tuple(networks.rows(connection)),
        )


def orphans(netns: Path | None, journal: Path) -> list[str]:
    """Links of our naming in the namespace that the worker wires, by default this one, that it knows not.

    What comes or goes meanwhile is none: it has to be there before the journal is read, and after.
    """
    before = _ours(netns)
    known = _expected(read_journal(journal)) if before else frozenset()
    return sorted((before & _ours(netns)) - known)


def _ours(netns: Path | None) -> frozenset[str]:
    with own() if netns is None else Netns(str(netns)) as host, inside(host) as links:
        names = set(named_links().values())
        vlans = {name for name in names if _VLAN.fullmatch(name)}
        by_alias = {name for name in vlans if (link := links.find(name)) and link.alias == parents.VLAN_ALIAS}
        return frozenset(
            {name for name in names if name.startswith(NETWORK_LINKS) or _HOST_LINK.fullmatch(name)}
            | by_alias
        )


def _expected(seen: JournalSeen) -> frozenset[str]:
    known = {row.host_link for row in seen.attachments} | {row.bridge for row in seen.attachments}
    for row in seen.networks:
        known |= {bridge_name(row.network), tunnel_name(row.network)}
        known |= {name for made in (row.made, row.definition) if made and (name := _carrier(made))}
    return frozenset(known)


def _carrier(definition: NetworkDefinition) -> str | None:
    """The VLAN's link that a network is on, if it is on one."""
    vlan = getattr(definition.driver, "vlan", None)
    parent = getattr(definition.driver, "parent", None) or getattr(definition.driver, "uplink", None)
    return parents.carrier(parent, vlan) if vlan is not None and parent else None


def _unreadable(path: Path, what: str, advice: str) -> ServiceError:
    return ServiceError(Code.INTERNAL, f"the journal {path} cannot be read: {what}; {advice}", path=str(path))
