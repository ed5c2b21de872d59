"""What people do with single addresses, on the real database: reserve, rebind, release."""

from typing import Any

import pytest
from sqlalchemy import Engine

from schemas.address import AddressRebind, AddressReserve
from schemas.message import Administrative
from tests.integration.allocating import Asked, only

pytestmark = pytest.mark.services


@pytest.fixture
def asked(engine: Engine) -> Asked:
    """An allocator with network prod and a pinned pool for everybody."""
    made = Asked(engine)
    made.network("prod", "10.1.0.0/28")
    made.pool("web", "10.1.0.2-10.1.0.5")
    return made


def ask(asked: Asked, kind: type[Administrative], **fields: Any) -> Any:
    """An administrative request in network prod."""
    return kind.model_validate({"request_id": asked.request_id(), "network": "prod"} | fields)


def test_the_answer_of_a_reserve_names_what_the_owner_is_pinned_to_and_nothing_else(asked: Asked):
    asked.attach("bank/api-0")
    view = asked.reply(ask(asked, AddressReserve, owner="bank/api-0", pool="web"))
    assert [(str(row.address), row.state) for row in view.addresses] == [("10.1.0.2", "waiting")]


def test_the_answer_of_a_rebind_does_not_name_what_a_pod_still_runs_with(asked: Asked):
    assert only(asked.attach("shop/web-0", pool="web")) == "10.1.0.2"
    view = asked.reply(ask(asked, AddressRebind, owner="shop/web-0", addresses=["10.1.0.4"]))
    assert [str(row.address) for row in view.addresses] == ["10.1.0.4"]
