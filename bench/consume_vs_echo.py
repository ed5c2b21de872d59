"""What the way through our consumer costs beside plain aio-pika, with a service that does nothing."""

from bench.machine import Machine, Place, Size, on_uvloop, pid_of
from bench.pods import pods
from bench.results import Figure
from bench.rounds import Contender, Turns, alternate
from broker.rpc import rpc_client

NETWORK = "bench"
FIGURES = (
    Figure("consume_vs_echo", "our consumer with nothing to do over bare echoes, answers a second"),
    Figure("consume_per_s", "answers a second of our consumer with nothing to do"),
    Figure("consume_cpu_us", "processor time of our consumer for each answer"),
    Figure("consume_cpu_vs_echo", "the same over that of the echo"),
)


def run(machine: Machine) -> dict[str, float]:
    """Alternate between the two, each in a virtual host of its own; both run all the time."""
    ours, bare = machine.place("consume"), machine.place("consume-echo")
    with machine.trivial(ours, NETWORK) as trivial, machine.echo(bare, NETWORK) as echo:
        turns = on_uvloop(_measure(machine, ours, bare, pid_of(trivial), pid_of(echo)))
    return _figures(turns["ours"], turns["bare"])


async def _measure(
    machine: Machine, ours: Place, bare: Place, trivial_pid: int, echo_pid: int
) -> dict[str, Turns]:
    quick = machine.size is Size.QUICK
    machine.tell("our consumer with nothing to do and echoes in turn, 64 in flight")
    async with (
        rpc_client(ours.operator, name="bench") as asking,
        rpc_client(bare.operator, name="bench echo") as echoing,
    ):
        contenders = {
            "ours": Contender(asking, pods(NETWORK), {"server": [trivial_pid]}),
            "bare": Contender(echoing, pods(NETWORK), {"server": [echo_pid]}),
        }
        return await alternate(contenders, rounds=2 if quick else 5, seconds=1 if quick else 2)


def _figures(ours: Turns, bare: Turns) -> dict[str, float]:
    return {
        "consume_vs_echo": ours.rate / bare.rate,
        "consume_per_s": ours.rate,
        "consume_cpu_us": ours.cpu("server"),
        "consume_cpu_vs_echo": ours.cpu("server") / bare.cpu("server"),
    }
