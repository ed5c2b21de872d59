"""Attaching and detaching pods, beside the reference plugins `bridge` and `host-local` on the same host."""

import resource
import statistics
from collections.abc import Mapping
from pathlib import Path

from bench.calls import Caller, Plugin, inside_host, sandboxes
from bench.machine import GRACE_S, ROOT, Machine, Size, cpu_s, memory_mb, pid_of
from bench.node import NETWORK, Node, make_network, node, started
from bench.pods import percentile
from bench.results import Figure
from node_worker.plan import bridge_name

FIGURES = (
    Figure("add_vs_reference", "our ADD over bridge + host-local's, whole processes", at_most=0.8),
    Figure("add_ms", "our ADD alone, median, ms"),
    Figure("add_p99_ms", "our ADD alone, p99, ms"),
    Figure("reference_add_ms", "bridge + host-local's ADD, median, ms"),
    Figure("reference_add_p99_ms", "bridge + host-local's ADD, p99, ms"),
    Figure("del_vs_reference", "our DEL over bridge + host-local's, whole processes", at_most=1.0),
    Figure("del_ms", "our DEL alone, median, ms"),
    Figure("reference_del_ms", "bridge + host-local's DEL, median, ms"),
    Figure("burst_vs_reference", "200 ADDs, 32 at a time: ours a second over theirs", at_least=2),
    Figure("burst_adds_per_s", "our ADDs a second in that burst, median"),
    Figure("reference_burst_adds_per_s", "theirs, median"),
    Figure("burst_cpu_ms_worker", "processor time of the node worker for each ADD of that burst"),
    Figure("burst_cpu_ms_shim", "of our executables"),
    Figure("burst_cpu_ms_allocator", "of the allocator"),
    Figure("burst_cpu_ms_rabbitmq", "of RabbitMQ"),
    Figure("burst_cpu_ms_mariadb", "of MariaDB"),
    Figure("reference_burst_cpu_ms", "of bridge + host-local for each of theirs"),
    Figure("worker_rss_mb", "peak memory of the node worker over 2,000 ADDs and DELs, MB", at_most=80),
    Figure("worker_rss_growth_mb", "the last quarter of these over the first, MB", at_most=4),
    Figure("worker_ready_s", "from the node worker's start to its STATUS ok, s", at_most=1.5),
)
_REFERENCE = Path("/usr/lib/cni")
_OUR_NET, _THEIR_NET = "10.87", "10.88"
_PAIRS = {Size.QUICK: 5, Size.NORMAL: 200, Size.FULL: 400}
_BURST = {Size.QUICK: 40, Size.NORMAL: 200, Size.FULL: 200}
_BURSTS = {Size.QUICK: 1, Size.NORMAL: 7, Size.FULL: 11}
_CHURN = {Size.QUICK: 40, Size.NORMAL: 2_000, Size.FULL: 20_000}
_STARTS = {Size.QUICK: 1, Size.NORMAL: 5, Size.FULL: 9}
_AT_ONCE = 32


def run(machine: Machine) -> dict[str, float]:
    """One IPv4 address, a gateway on the bridge, no masquerade and no probe on both sides."""
    place, folder = machine.place("attach"), machine.services.state_dir
    with machine.allocator(place, machine.database("attach")) as allocator, node(machine, place) as host:
        make_network(place, f"{_OUR_NET}.0.0/16")
        ours, theirs = _ours(host, folder), _theirs(folder)
        machine.tell("the node worker started again and again")
        measured = {"worker_ready_s": _ready_s(machine, host, ours)}
        host.run("ip", "address", "add", f"{_OUR_NET}.0.1/16", "dev", bridge_name(NETWORK))
        servers = machine.services
        watched = {
            "worker": [pid_of(host.worker)],
            "allocator": [pid_of(allocator)],
            "rabbitmq": servers.rabbitmq.pids,
            "mariadb": servers.mariadb.pids,
        }
        with inside_host(host.netns):
            caller = Caller(folder)
            machine.tell("ADD and DEL of both plugins in turn: one alone")
            measured |= _alone(machine, caller, ours, theirs)
            machine.tell("ADD and DEL of both plugins in turn: many at once")
            measured |= _bursts(machine, caller, (ours, theirs), watched)
            machine.tell("ADDs and DELs one after another")
            measured |= _churn(machine, caller, ours, pid_of(host.worker))
        return measured


def _ours(host: Node, folder: Path) -> Plugin:
    conf = {"cniVersion": "1.1.0", "name": "ours", "type": "moorage", "network": NETWORK}
    return Plugin.written(
        ROOT / "build" / "cni" / "moorage", conf, folder, MOORAGE_CNI_SOCKET=str(host.socket)
    )


def _theirs(folder: Path) -> Plugin:
    if not (_REFERENCE / "bridge").exists():
        raise RuntimeError(f"no plugins in {_REFERENCE}: apt-get install containernetworking-plugins")
    ipam = {
        "type": "host-local",
        "subnet": f"{_THEIR_NET}.0.0/16",
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(folder / "host-local"),
    }
    conf = {
        "cniVersion": "1.0.0",
        "name": "theirs",
        "type": "bridge",
        "bridge": "theirs0",
        "isGateway": True,
        "ipMasq": False,
        "ipam": ipam,
    }
    return Plugin.written(_REFERENCE / "bridge", conf, folder)


def _ready_s(machine: Machine, host: Node, ours: Plugin) -> float:
    """The median of some starts, after one that makes the network's bridge."""
    taken = []
    for number in range(_STARTS[machine.size] + 1):
        if number:
            host.worker.stop(GRACE_S)
        taken.append(started(host, ours))
    return statistics.median(taken[1:])


def _alone(machine: Machine, caller: Caller, ours: Plugin, theirs: Plugin) -> dict[str, float]:
    """One call at a time; the two plugins take turns."""
    taken: dict[tuple[str, str], list[float]] = {}
    count = _PAIRS[machine.size]
    with sandboxes("moalone", count) as left, sandboxes("moalone-ref", count) as right:
        for number, pair in enumerate(zip(left, right, strict=True)):
            turns = list(zip(("ours", "theirs"), (ours, theirs), pair, strict=True))
            for verb in ("ADD", "DEL"):
                for name, plugin, sandbox in turns if number % 2 else turns[::-1]:
                    taken.setdefault((name, verb), []).append(caller.one(plugin, verb, sandbox))
    middle = {key: statistics.median(values) * 1e3 for key, values in taken.items()}
    return {
        "add_ms": middle["ours", "ADD"],
        "add_p99_ms": percentile(taken["ours", "ADD"], 99) * 1e3,
        "reference_add_ms": middle["theirs", "ADD"],
        "reference_add_p99_ms": percentile(taken["theirs", "ADD"], 99) * 1e3,
        "add_vs_reference": middle["ours", "ADD"] / middle["theirs", "ADD"],
        "del_ms": middle["ours", "DEL"],
        "reference_del_ms": middle["theirs", "DEL"],
        "del_vs_reference": middle["ours", "DEL"] / middle["theirs", "DEL"],
    }


def _bursts(
    machine: Machine, caller: Caller, plugins: tuple[Plugin, Plugin], watched: Mapping[str, list[int]]
) -> dict[str, float]:
    """Many ADDs at once; the two plugins take turns."""
    rates: dict[str, list[float]] = {"ours": [], "theirs": []}
    used: dict[str, list[float]] = {}
    count = _BURST[machine.size]
    for number in range(_BURSTS[machine.size]):
        turns = list(zip(("ours", "theirs"), plugins, strict=True))
        for name, plugin in turns if number % 2 else turns[::-1]:
            with sandboxes("moburst", count) as pods:
                before = {key: cpu_s(*pids) for key, pids in watched.items()} | {"calls": _calls_cpu_s()}
                rates[name].append(count / caller.many(plugin, "ADD", pods, _AT_ONCE))
                after = {key: cpu_s(*pids) for key, pids in watched.items()} | {"calls": _calls_cpu_s()}
                for key, seconds in after.items():
                    used.setdefault(f"{name} {key}", []).append((seconds - before[key]) / count * 1e3)
                caller.many(plugin, "DEL", pods, _AT_ONCE)
    middle = {name: statistics.median(values) for name, values in rates.items()}
    cpu = {name: statistics.median(values) for name, values in used.items()}
    return {
        **{f"burst_cpu_ms_{key}": cpu[f"ours {key}"] for key in watched},
        "burst_cpu_ms_shim": cpu["ours calls"],
        "reference_burst_cpu_ms": cpu["theirs calls"],
        "burst_adds_per_s": middle["ours"],
        "reference_burst_adds_per_s": middle["theirs"],
        "burst_vs_reference": middle["ours"] / middle["theirs"],
    }


def _calls_cpu_s() -> float:
    """What the calls so far have used, and what those started (getrusage(2), RUSAGE_CHILDREN)."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _churn(machine: Machine, caller: Caller, ours: Plugin, worker: int) -> dict[str, float]:
    """The worker's memory over many pods that come and go."""
    samples, some = [], 20
    with sandboxes("mochurn", some) as pods:
        for _ in range(_CHURN[machine.size] // some):
            caller.many(ours, "ADD", pods, some)
            caller.many(ours, "DEL", pods, some)
            samples.append(memory_mb(worker, "VmRSS"))
    quarter = max(1, len(samples) // 4)
    return {
        "worker_rss_mb": memory_mb(worker, "VmHWM"),
        "worker_rss_growth_mb": statistics.mean(samples[-quarter:]) - statistics.mean(samples[:quarter]),
    }
