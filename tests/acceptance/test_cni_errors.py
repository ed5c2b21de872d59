"""Every error code that a runtime may be shown, by the real executable: none is without a row here."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni.endpoint import serve
from cni.errors import SERVICE_CODES, SpecCode
from cni.request import CniRequest
from schemas.errors import ServiceError
from tests.acceptance.machines import Machine
from tests.acceptance.provoking import PROVOKED, Scene, set_the_scene
from tests.acceptance.shim_process import run
from tests.cni_fakes import FakeHandler
from tests.named_tests import exists

ROOT = Path(__file__).parent.parent.parent
pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("cni-spec")]

SHOWN_BY: dict[int, tuple[str, ...]] = {
    # The node never repeats an attachment_id.
    106: ("integration/test_allocator_decisions.py::test_every_case_comes_out_as_the_page_says",),
    # A network that a node cannot make is refused when it is created; an ADD would be told 11.
    112: (
        "integration/test_node_bridge.py::test_a_missing_uplink_is_named_with_those_there_are_and_no_bridge_is_made",
    ),
    113: (
        "integration/test_node_bridge.py::test_an_uplink_of_another_network_is_refused_and_that_network_is_named",
    ),
    114: (
        "integration/test_node_bridge.py::test_a_foreign_link_in_the_bridges_place_is_neither_taken_nor_removed",
    ),
    # An operator's requests.
    116: ("integration/test_allocator_nodes.py::test_an_unknown_node_cannot_be_fenced",),
    137: ("integration/test_allocator_networks.py::test_a_request_id_names_one_request",),
    # What passes by itself is 11, unless its sender says that it does not: none of ours does.
    **dict.fromkeys(
        range(120, 125),
        (
            "unit/test_cni_errors.py::test_a_sender_may_say_that_a_failure_passes_or_does_not",
            "unit/test_cni_errors.py::test_what_may_pass_is_code_11_and_keeps_its_name",
        ),
    ),
    # A message between node worker and allocator of another version of ours, or a broker of somebody else.
    130: ("integration/test_broker_rpc.py::test_a_broker_that_was_not_provisioned_says_so",),
    132: ("unit/test_node_add.py::test_an_owner_that_no_message_can_carry_is_refused_and_nothing_is_left",),
    133: ("unit/test_broker_codec.py::test_another_schema_version_is_refused",),
    134: ("unit/test_broker_codec.py::test_an_unknown_routing_key_is_an_unknown_request",),
    135: ("unit/test_broker_codec.py::test_a_request_over_64_kib_is_refused_before_it_is_sent",),
    136: ("unit/test_broker_codec.py::test_what_is_no_json_is_unreadable",),
}
"''' + '''What cannot be brought about by a CNI call, and the tests that bring it about where it arises."

NEVER_SAID = {
    SpecCode.UNSUPPORTED_FIELD: "keys that we do not know are other plugins', and passed over",
    SpecCode.UNKNOWN_CONTAINER: "it tells the runtime to send no DEL, and we want one",
    SpecCode.INVALID_NETNS: "libcni's own; we say 111, which has a name",
    SpecCode.LIMITED_CONNECTIVITY: "pods reach each other whatever the node worker does",
}
"''' + '''What the product does not use, and why."


def test_every_code_has_a_row_and_only_one() -> None:
    rows = [*PROVOKED, *SHOWN_BY, *NEVER_SAID]
    assert sorted(rows) == sorted({*SpecCode, *SERVICE_CODES.values()})


def test_every_test_that_is_named_for_a_code_exists() -> None:
    assert [name for names in SHOWN_BY.values() for name in names if not exists(name)] == []


def test_what_is_never_said_is_nowhere_in_the_product() -> None:
    sources = [path for folder in ("cni", "node_worker") for path in (ROOT / folder).rglob("*.[cp]*")]
    text = "\n".join(path.read_text() for path in sources if path.suffix in {".c", ".py"})
    assert "SpecCode.TRY_AGAIN_LATER" in text
    assert [code.name for code in NEVER_SAID if f"SpecCode.{code.name}" in text] == []


@pytest.fixture(scope="module")
def machine(one_node: Machine) -> Machine:
    set_the_scene(one_node)
    return one_node


@pytest.fixture
def scene(machine: Machine) -> Iterator[Scene]:
    made = Scene(machine)
    yield made
    made.clear()


NAMES = {number: str(code) for code, number in SERVICE_CODES.items()}


@pytest.mark.services
@pytest.mark.netns
@pytest.mark.parametrize("number", [pytest.param(n, id=PROVOKED[n].__name__) for n in PROVOKED])
def test_a_code_comes_out_of_the_executable_where_it_is_brought_about(scene: Scene, number: int):
    status, answer = PROVOKED[number](scene)
    assert (status, answer.get("code")) == (1, number), answer
    assert set(answer) == {"cniVersion", "code", "msg", "details"}
    assert answer["msg"]
    if number in NAMES:
        assert answer["details"] == NAMES[number]
    said = json.dumps(answer).lower()
    assert "not found" not in said
    assert "no such file or directory" not in said


@pytest.mark.parametrize("code", sorted(SERVICE_CODES))
async def test_a_code_keeps_its_number_and_its_name_through_socket_and_executable(
    shim: Path, tmp_path: Path, code: str
) -> None:
    async def refuse(request: CniRequest) -> None:
        raise ServiceError(code, "so it is", retryable=False)

    async with serve(tmp_path / "cni.sock", FakeHandler(refuse)):
        outcome = await run(shim, tmp_path / "cni.sock")
    assert outcome.failed(SERVICE_CODES[code]) == "so it is"
    assert outcome.document["details"] == code
