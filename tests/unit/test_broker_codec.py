"""What a message must be to be a request, and what answers look like."""

import base64
import json
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import pytest

from broker.codec import decode, decode_answer, encode_answer, encode_request, is_reply_queue
from broker.frames import Arrived
from broker.topology import routing_key
from schemas.address import AddressRelease, Released
from schemas.errors import Code, ServiceError
from schemas.message import MAX_BODY_BYTES, Answer
from schemas.network import NetworkCreate

RELEASE = AddressRelease(network="prod", node="n1", container_id="c1", ifname="eth0")
KEY = routing_key(RELEASE)


def token(node: bytes = b"reply@17671572", rest: bytes = b"\0\0\3\x96\0\0\0\0k\5\x15\xfe") -> str:
    """A reply queue's name as RabbitMQ writes it: an Erlang process and a key."""
    process = b"\x83Xv" + len(node).to_bytes(2, "big") + node + rest
    return f"amq.rabbitmq.reply-to.{base64.b64encode(process).decode()}.M6sHMmDIijpNN1ZKeizo0w=="


def arrived(**parts: Any) -> Arrived:
    """A release as it comes from a queue, but for the parts given."""
    usual: dict[str, Any] = {
        "body": RELEASE.model_dump_json().encode(),
        "routing_key": KEY,
        "type": "address.release",
        "user_id": "node.n1",
        "headers": {"schema_version": 1},
    }
    return Arrived(**(usual | parts))


def code_of(message: Arrived) -> str:
    with pytest.raises(ServiceError) as caught:
        decode(message)
    return caught.value.code


def test_a_request_comes_out_as_it_went_in() -> None:
    release = RELEASE.model_copy(update={"attachment_id": uuid4()})
    sent = encode_request(
        release, user_id="node.n1", message_id="m", correlation_id="c", reply_to="amq.rabbitmq.reply-to"
    )
    assert (sent.type, sent.content_type, sent.user_id) == ("address.release", "application/json", "node.n1")
    message = arrived(body=sent.body, type=sent.type, headers=dict(sent.headers), reply_to=token())
    assert decode(message) == release


def test_a_request_over_64_kib_is_refused_before_it_is_sent() -> None:
    create = NetworkCreate.model_validate(
        {
            "request_id": "r",
            "network": "prod",
            "subnets": [{"cidr": "10.0.0.0/24"}],
            "owners": [f"{'n' * 60}/{'p' * 240}{i:03}" for i in range(256)],
        }
    )
    with pytest.raises(ServiceError) as caught:
        encode_request(create, user_id="u", message_id="m", correlation_id="c", reply_to=None)
    assert caught.value.code == Code.TOO_LARGE


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"network": "prod"', b"nothing"])
def test_what_is_no_json_is_unreadable(body: bytes) -> None:
    assert code_of(arrived(body=body)) == Code.UNREADABLE


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b'{"network": "prod"}', b'{"network": 1, "node": "n1"}', b"[" * 50_000]
)
def test_json_that_is_no_such_request_is_refused(body: bytes) -> None:
    assert code_of(arrived(body=body)) in (Code.INVALID_REQUEST, Code.UNREADABLE)


def test_an_unknown_field_is_refused_by_name() -> None:
    body = json.dumps({**RELEASE.model_dump(mode="json"), "forse": True}).encode()
    with pytest.raises(ServiceError, match="forse: unknown field"):
        decode(arrived(body=body))


def test_a_body_over_64_kib_is_refused_unread() -> None:
    assert code_of(arrived(body=b" " * (MAX_BODY_BYTES + 1))) == Code.TOO_LARGE
    padded = RELEASE.model_dump_json().encode().ljust(MAX_BODY_BYTES)
    assert decode(arrived(body=padded)) == RELEASE


@pytest.mark.parametrize("key", ["0.address.explode", "address.release", "query.address.release", ""])
def test_an_unknown_routing_key_is_an_unknown_request(key: str) -> None:
    assert code_of(arrived(routing_key=key)) == Code.UNKNOWN_REQUEST


@pytest.mark.parametrize("version", [0, 2, "1", True, None, 1.0])
def test_another_schema_version_is_refused(version: object) -> None:
    assert code_of(arrived(headers={"schema_version": version})) == Code.UNSUPPORTED_VERSION
    assert code_of(arrived(headers={})) == Code.UNSUPPORTED_VERSION


def test_a_type_that_differs_from_the_routing_key_is_refused() -> None:
    assert code_of(arrived(type="address.allocate")) == Code.SENDER_FORBIDDEN


@pytest.mark.parametrize("user", [None, ""])
def test_a_message_without_its_user_is_refused(user: str | None) -> None:
    assert code_of(arrived(user_id=user)) == Code.SENDER_FORBIDDEN


def test_a_request_on_another_networks_partition_is_refused_with_the_right_key() -> None:
    wrong = f"{(int(KEY[0]) + 1) % 4}.address.release"
    with pytest.raises(ServiceError, match=KEY):
        decode(arrived(routing_key=wrong))


def test_rabbitmqs_own_reply_queues_are_known() -> None:
    assert is_reply_queue(token())
    # As RabbitMQ 3.10 wrote it.
    assert is_reply_queue(
        "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxNzY3MTU3MgAAA5YAAAAAawUV/g==.M6sHMmDIijpNN1ZKeizo0w=="
    )


@pytest.mark.parametrize(
    "name",
    [
        "answers",
        "moorage.dead",
        "moorage.allocator.0",
        "amq.rabbitmq.reply-to",
        "amq.rabbitmq.reply-to.aaaa.bbbb",
        f"x{token()}",
        f"{token()}.x",
        f"{token()}\n",
        token(node=b"rabbit@host"),
        token(rest=b"\0" * 11),
        token().replace("g1h2", "g1h3"),
    ],
)
def test_any_other_reply_to_is_refused(name: str) -> None:
    assert not is_reply_queue(name)
    assert code_of(arrived(reply_to=name)) == Code.SENDER_FORBIDDEN


def test_an_answer_comes_out_as_it_went_in() -> None:
    released = Released.model_validate({"addresses": ["10.0.0.5", "fd00::5"]})
    sent = encode_answer(released, request="address.release", correlation_id="c")
    assert (sent.correlation_id, sent.delivery_mode) == ("c", aio_pika.DeliveryMode.NOT_PERSISTENT)
    assert json.loads(sent.body).keys() == {"result", "error"}
    assert decode_answer(sent.body, AddressRelease) == released


def test_an_error_is_raised_where_the_answer_arrives() -> None:
    attachment = UUID(int=7)
    error = ServiceError(Code.EXHAUSTED, "no address left", pool="web", attachment=attachment, odd=object)
    sent = encode_answer(error, request="address.allocate", correlation_id="c")
    with pytest.raises(ServiceError) as caught:
        decode_answer(sent.body, AddressRelease)
    assert (caught.value.code, caught.value.message) == (Code.EXHAUSTED, "no address left")
    assert caught.value.fields["attachment"] == str(attachment)
    assert not caught.value.retryable


def test_a_stored_answer_goes_out_unchanged() -> None:
    stored = Answer(result={"addresses": ["10.0.0.5"]})
    sent = encode_answer(stored, request="address.release", correlation_id="c")
    assert Answer.model_validate_json(sent.body) == stored


@pytest.mark.parametrize("body", [b"", b"{}", b'{"result": {"addresses": 1}}', b"[1]"])
def test_an_answer_that_cannot_be_read_is_an_error(body: bytes) -> None:
    with pytest.raises(ServiceError) as caught:
        decode_answer(body, AddressRelease)
    assert caught.value.code == Code.INTERNAL
