"""This machine as a node: CNI plugin, socket, journal, networks and links."""

import stat
import time
from collections.abc import Sequence
from pathlib import Path

from cni.executable import why_unready
from cni.inspection import inspect
from compose.doctor.site import Site
from compose.doctor.verdict import Verdict, counted, fail, listed, ok, warn
from node_worker import inspection

_OWED_S = 2.0
"""How long a release may wait, in seconds, before somebody should look: it is sent at once."""
_RUN = "start the node worker: `moorage node`; its log says what it waits for"
_MODE = 0o600


def cni(site: Site) -> Sequence[Verdict]:
    """Whether the CNI plugin is installed and can serve: as `moorage cni status`."""
    _ = site.node
    return [Verdict(item.state, item.found, item.advice, item.part) for item in inspect(site.places).findings]


def socket(site: Site) -> Verdict:
    """Whether the node worker listens where the executable calls it, for root alone, and would serve ADD."""
    _ = site.node
    path = site.places.socket
    try:
        facts = path.lstat()
    except OSError as error:
        return fail(f"{path}: {error.strerror}", _RUN)
    if not stat.S_ISSOCK(facts.st_mode):
        return fail(f"{path} is not a socket", f"move it away, then {_RUN}")
    mode = stat.S_IMODE(facts.st_mode)
    if mode != _MODE or facts.st_uid != 0:
        told = f"{path} has mode {mode:04o} and owner {facts.st_uid}, not 0600 and root"
        return warn(told, f"whoever may write to it may attach pods: `chown root {path}; chmod 0600 {path}`")
    reason = why_unready(path)
    return fail(reason, _RUN) if reason is not None else ok(f"the node worker serves at {path}")


def journal(site: Site) -> Verdict:
    """Whether the journal can be read, and whether releases wait in it for long."""
    before = inspection.read_journal(_journal(site))
    if before.owed:
        time.sleep(_OWED_S)
    after = inspection.read_journal(_journal(site)) if before.owed else before
    waiting = before.owed & after.owed
    if waiting:
        return warn(
            f"{counted(len(waiting), 'release')} unanswered for over {_OWED_S:g} s",
            "their addresses are not free yet; they go out when the allocator answers: see its checks",
        )
    return ok(f"{counted(len(after.attachments), 'attachment')}, no release waits")


def node_networks(site: Site) -> Verdict:
    """Whether this node made the networks that it was told to make."""
    known = inspection.read_journal(_journal(site)).networks
    failed = [row for row in known if row.outcome == "error"]
    if failed:
        told = [
            f"{row.network}: {row.error.code}: {row.error.message}" if row.error else row.network
            for row in failed
        ]
        return fail(
            listed(told),
            f"mend what it says, the worker tries again; `moorage network show {failed[0].network}`",
        )
    pending = [row.network for row in known if row.outcome == "pending"]
    if pending:
        return warn(f"not made yet: {listed(pending)}", f"run this again; if it stays so, {_RUN}")
    return ok(f"{counted(len(known), 'network')} as the node was told")


def links(site: Site) -> Verdict:
    """Whether there are links of Moorage's naming that the journal knows nothing of."""
    orphans = inspection.orphans(site.settings.node_netns, _journal(site))
    if orphans:
        return warn(
            f"not in the journal: {listed(orphans)}",
            f"if no pod uses it: `ip link del {orphans[0]}`, in the namespace that the worker wires",
        )
    return ok("every link of ours is in the journal")


def _journal(site: Site) -> Path:
    _ = site.node
    return site.settings.node_dir / "journal.sqlite"
