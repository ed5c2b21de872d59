"""The plan of a soak: the same for the same seed, and one that can be carried out."""

from collections import Counter

from bench.soak.plan import (
    BROKER,
    NODES,
    QUIET_S,
    SLOTS,
    Cut,
    Freeze,
    Kill,
    OperatorStep,
    PodStep,
    Slot,
    Verb,
    plan,
)

SECONDS = 1800


def test_a_seed_gives_the_same_plan_again_and_another_one_another() -> None:
    assert plan(7, SECONDS) == plan(7, SECONDS)
    assert plan(7, SECONDS) != plan(8, SECONDS)


def test_steps_come_in_the_order_of_their_times_and_none_after_the_end() -> None:
    times = [step.at_s for step in plan(7, SECONDS)]
    assert times == sorted(times)
    assert times[-1] < SECONDS


def test_no_step_is_one_that_its_pod_cannot_take() -> None:
    where: dict[Slot, str | None] = dict.fromkeys(SLOTS)
    for step in plan(7, SECONDS):
        if not isinstance(step, PodStep):
            continue
        here = where[step.slot]
        if step.verb is Verb.START:
            assert here is None, step
        elif step.verb in (Verb.MOVE, Verb.HASTY_MOVE):
            assert here not in (None, step.node), step
        else:
            assert here == step.node, step
        where[step.slot] = None if step.verb in (Verb.STOP, Verb.VANISH) else step.node
    assert set(where.values()) <= {None, *NODES}


def test_everything_that_may_happen_happens_in_half_an_hour() -> None:
    steps = plan(7, SECONDS)
    pods = [step for step in steps if isinstance(step, PodStep)]
    kills = Counter(step.target for step in steps if isinstance(step, Kill))
    assert {step.verb for step in pods} == set(Verb)
    assert {step.slot for step in pods} == set(SLOTS)
    assert any(step.kill_add_s is not None for step in pods)
    assert any(step.kill_del_s is not None for step in pods)
    assert any(step.late_del_s is not None for step in pods)
    assert set(kills) == {"allocator-1", "allocator-2", "node-1", "node-2", "node-3", "rabbitmq", "mariadb"}
    assert any(isinstance(step, Freeze) for step in steps)
    assert {step.server for step in steps if isinstance(step, Cut)} == {"rabbitmq", "mariadb"}
    assert len({step.errand for step in steps if isinstance(step, OperatorStep)}) == 3


def test_nothing_is_killed_before_the_queues_are_safe_nor_while_it_is_down() -> None:
    for seed in range(20):
        up_at: dict[str, float] = {}
        for step in plan(seed, SECONDS):
            if isinstance(step, Kill):
                assert step.at_s >= max(QUIET_S, up_at.get(step.target, 0)), step
                up_at[step.target] = step.at_s + step.down_s
        assert BROKER in up_at
