"""All checks side by side: each in a thread of its own and for a limited time, whatever others come to."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import unquote, urlsplit

from compose.doctor import broker_checks, cluster_checks, database_checks, node_checks, server_checks
from compose.doctor.site import Site
from compose.doctor.verdict import Finding, Report, Skipped, Verdict
from compose.settings import Settings
from schemas.errors import Code, ServiceError

Check = Callable[[Site], Verdict | Sequence[Verdict]]

CHECK_S = 5.0
"""How long a check may take, in seconds. It is not waited for any longer, and ends with the process."""

CHECKS: Mapping[str, Check] = {
    "login": broker_checks.login,
    "brokers": server_checks.broker_servers,
    "tls": server_checks.tls,
    "permissions": broker_checks.permissions,
    "topology": broker_checks.topology_,
    "members": server_checks.members,
    "consumers": broker_checks.consumers,
    "alarms": broker_checks.alarms,
    "dead-letters": broker_checks.dead_letters,
    "database": database_checks.database,
    "databases": server_checks.database_servers,
    "pause": database_checks.pause,
    "clock": database_checks.clock,
    "allocator": cluster_checks.allocator,
    "nodes": cluster_checks.nodes,
    "addresses": cluster_checks.addresses,
    "networks": cluster_checks.networks,
    "pools": cluster_checks.pools,
    "cni": node_checks.cni,
    "socket": node_checks.socket,
    "journal": node_checks.journal,
    "node-networks": node_checks.node_networks,
    "links": node_checks.links,
}
"""Every check by its name, in the order in which a person mends things."""


def chosen(names: Iterable[str]) -> dict[str, Check]:
    """The checks of these names, all for none. Raises `invalid_request` for a name that is none."""
    wanted = [name for name in names if name]
    unknown = sorted(set(wanted) - set(CHECKS))
    if unknown:
        raise ServiceError(
            Code.INVALID_REQUEST, f"there is no check {', '.join(unknown)}; there are {', '.join(CHECKS)}"
        )
    return {name: check for name, check in CHECKS.items() if name in wanted or not wanted}


def examine(site: Site, checks: Mapping[str, Check], *, limit_s: float = CHECK_S) -> Report:
    """Run `checks` and report in their order. Raises nothing; no finding holds a password of the settings."""
    found: dict[str, Sequence[Verdict]] = {}

    def run(name: str, check: Check) -> None:
        found[name] = _verdicts(check, site)

    threads = {
        name: threading.Thread(target=run, args=(name, check), name=f"check {name}", daemon=True)
        for name, check in checks.items()
    }
    deadline = time.monotonic() + limit_s
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join(max(0.0, deadline - time.monotonic()))
    late = [
        Verdict(
            "fail", f"no answer within {limit_s:g} s", "run it again; see that what it asks is not overloaded"
        )
    ]
    hidden = _secrets(site.settings)
    findings = tuple(_finding(name, verdict, hidden) for name in checks for verdict in found.get(name, late))
    return Report(ok=all(item.state != "fail" for item in findings), findings=findings)


def _verdicts(check: Check, site: Site) -> Sequence[Verdict]:
    try:
        said = check(site)
    except Skipped as reason:
        return [Verdict("skip", str(reason))]
    except ServiceError as error:
        return [Verdict("fail", error.message)]
    except Exception as error:
        told = f"the check itself failed ({type(error).__name__}: {error})"
        return [Verdict("fail", told, "report this as a bug")]
    return [said] if isinstance(said, Verdict) else said


def _finding(name: str, verdict: Verdict, hidden: Sequence[str]) -> Finding:
    return Finding(
        check=f"{name} {verdict.part}".rstrip(),
        state=verdict.state,
        found=_masked(verdict.found, hidden),
        advice=_masked(verdict.advice, hidden) if verdict.advice else None,
    )


def _secrets(settings: Settings) -> list[str]:
    """Passwords of all URLs, as they are and as they are written there; longest first."""
    passwords: set[str] = set()
    for login in (settings.broker, settings.management, settings.database):
        try:
            password = urlsplit(login.servers()[0]).password if login else None
        except (ValueError, ServiceError):
            password = None
        if password:
            passwords |= {password, unquote(password)}
    return sorted(passwords, key=len, reverse=True)


def _masked(text: str, hidden: Sequence[str]) -> str:
    """`text` without passwords. One that is a common word is taken out too."""
    for secret in hidden:
        text = text.replace(secret, "***")
    return text
