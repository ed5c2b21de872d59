"""Durable allocations per second beside a bare echo over the same kind of queue, asked by the same client."""

import statistics
from collections.abc import Mapping

from bench.machine import Machine, Place, Size, on_uvloop, pid_of
from bench.pods import alone, new_network, percentile, pods
from bench.results import Figure
from bench.rounds import Contender, Turns, alternate
from broker.rpc import rpc_client

NETWORK = "bench"
FIGURES = (
    Figure("allocate_vs_echo", "durable allocations over bare echoes, 64 in flight", at_least=0.85),
    Figure("allocations_per_s", "durable allocations a second, 64 in flight on one network"),
    Figure("echo_per_s", "bare aio-pika echoes a second, 64 in flight"),
    Figure("allocate_p50_ms", "one allocate alone, median"),
    Figure("allocate_p99_ms", "one allocate alone, 99th percentile"),
    Figure("echo_p50_ms", "one echo alone, median"),
    Figure("allocate_cpu_us_allocator", "processor time of the allocator for each allocation"),
    Figure("allocate_cpu_us_mariadb", "of MariaDB"),
    Figure("allocate_cpu_us_rabbitmq", "of RabbitMQ"),
    Figure("allocate_cpu_us_client", "of the client"),
    Figure("echo_cpu_us_echo", "processor time of the echo for each answer"),
    Figure("echo_cpu_us_rabbitmq", "of RabbitMQ"),
    Figure("echo_cpu_us_client", "of the client"),
)


def run(machine: Machine) -> dict[str, float]:
    """Alternate between the two, each in a virtual host of its own; both run all the time."""
    ours, bare = machine.place("allocate"), machine.place("echo")
    database = machine.database("allocate_vs_echo")
    servers = machine.services
    with machine.allocator(ours, database) as allocator, machine.echo(bare, NETWORK) as echo:
        pids = {
            "ours": {
                "allocator": [pid_of(allocator)],
                "mariadb": servers.mariadb.pids,
                "rabbitmq": servers.rabbitmq.pids,
            },
            "bare": {"echo": [pid_of(echo)], "rabbitmq": servers.rabbitmq.pids},
        }
        return on_uvloop(_measure(machine, ours, bare, pids))


async def _measure(
    machine: Machine, ours: Place, bare: Place, pids: Mapping[str, Mapping[str, list[int]]]
) -> dict[str, float]:
    quick = machine.size is Size.QUICK
    async with (
        rpc_client(ours.operator, name="bench") as asking,
        rpc_client(bare.operator, name="bench echo") as echoing,
    ):
        await asking.ask(new_network(NETWORK), timeout_s=30)
        contenders = {
            "ours": Contender(asking, pods(NETWORK), pids["ours"]),
            "bare": Contender(echoing, pods(NETWORK), pids["bare"]),
        }
        machine.tell("allocations and echoes in turn, 64 in flight")
        turns = await alternate(contenders, rounds=2 if quick else 7, seconds=1 if quick else 3)
        machine.tell("one allocate and one echo alone")
        samples = 100 if quick else 1000
        allocate_s = await alone(asking, pods(NETWORK), samples)
        echo_s = await alone(echoing, pods(NETWORK), samples)
    return _figures(turns["ours"], turns["bare"]) | {
        "allocate_p50_ms": statistics.median(allocate_s) * 1e3,
        "allocate_p99_ms": percentile(allocate_s, 99) * 1e3,
        "echo_p50_ms": statistics.median(echo_s) * 1e3,
    }


def _figures(ours: Turns, bare: Turns) -> dict[str, float]:
    return {
        "allocate_vs_echo": ours.rate / bare.rate,
        "allocations_per_s": ours.rate,
        "echo_per_s": bare.rate,
        **{f"allocate_cpu_us_{process}": ours.cpu(process) for process in ours.cpu_us},
        **{f"echo_cpu_us_{process}": bare.cpu(process) for process in bare.cpu_us},
    }
