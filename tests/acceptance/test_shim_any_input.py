"""Random and mutated calls: always one JSON object and the right exit status, and the worker goes on."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cni.endpoint import serve
from tests.acceptance.shim_process import ENV, STDIN, Env, Outcome, build, ending, start
from tests.cni_fakes import CONF, FakeHandler

pytestmark = pytest.mark.acceptance

Call = Callable[[dict[str, str | bytes], bytes], Outcome]


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    """One shim process against one long-lived endpoint, from a test that is not a coroutine."""
    folder = tmp_path_factory.mktemp("any")
    shim, path = build(folder), folder / "cni.sock"
    with asyncio.Runner() as runner:
        endpoint = serve(path, FakeHandler())
        runner.run(endpoint.__aenter__())
        yield lambda env, stdin: runner.run(_one(shim, path, env, stdin))
        runner.run(endpoint.__aexit__(None, None, None))


async def _one(shim: Path, path: Path, env: Env, stdin: bytes) -> Outcome:
    return await ending(await start(shim, path, env), stdin)


def _cut_and_spliced(text: bytes) -> st.SearchStrategy[bytes]:
    """`text` with one stretch of it replaced by anything."""
    places = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)), st.binary(max_size=8))
    return places.map(lambda cut: text[: min(cut[:2])] + cut[2] + text[max(cut[:2]) :])


_VALUES = st.sampled_from(
    ["", "ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "/", "..", "eth0", "not found", "A=B", ";;"]
) | st.binary(max_size=40).map(lambda value: value.replace(b"\0", b""))
_STDINS = (
    st.just(STDIN)
    | _cut_and_spliced(STDIN)
    | st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*CONF, "prevResult", "interfaces", "ips"]), inner)
        ),
        max_leaves=6,
    ).map(lambda value: json.dumps(CONF | {"prevResult": value} if value else value).encode())
)


@settings(
    max_examples=200,  # and 300 in test_mutated_calls.py
    derandomize=True,  # the same examples wherever it runs
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    st.dictionaries(st.sampled_from([*ENV, "CNI_X"]), _VALUES, max_size=3),
    st.sets(st.sampled_from([*ENV]), max_size=2),
    _STDINS,
)
def test_any_input_gives_one_json_object_and_the_right_exit_status(
    call: Call, changed: dict[str, str | bytes], missing: set[str], stdin: bytes
) -> None:
    kept = {name: value for name, value in ENV.items() if name not in missing or name in changed}
    outcome = call({**kept, **changed}, stdin)
    verb = changed.get("CNI_COMMAND", kept.get("CNI_COMMAND"))
    verb = verb.decode(errors="replace") if isinstance(verb, bytes) else verb
    if outcome.status == 0 and verb in {"DEL", "CHECK", "GC", "STATUS"}:
        assert outcome.stdout == b""
    elif outcome.status == 0:
        assert verb in {"ADD", "VERSION"}
        assert outcome.document["cniVersion"]
    else:
        assert outcome.document["code"] in {1, 4, 6, 7}
        outcome.failed(outcome.document["code"])
    assert call(dict(ENV), STDIN).status == 0
