"""The one error type that crosses process borders, and every code it may carry."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Code(StrEnum):
    """Stable names of failures. They survive from the allocator to the CNI result unchanged."""

    # The message itself.
    UNREADABLE = "unreadable"
    UNKNOWN_REQUEST = "unknown_request"
    UNSUPPORTED_VERSION = "unsupported_version"
    TOO_LARGE = "too_large"
    INVALID_REQUEST = "invalid_request"
    SENDER_FORBIDDEN = "sender_forbidden"
    REQUEST_CONFLICT = "request_conflict"
    DEADLINE_PASSED = "deadline_passed"
    VERSION_CONFLICT = "version_conflict"
    # Networks.
    NETWORK_UNKNOWN = "network_unknown"
    NETWORK_EXISTS = "network_exists"
    NETWORK_IN_USE = "network_in_use"
    NETWORK_UNSUITABLE = "network_unsuitable"
    NETWORK_NOT_READY = "network_not_ready"
    ROLLOUT_FAILED = "rollout_failed"
    SUBNET_CONFLICT = "subnet_conflict"
    # Pools and addresses.
    POOL_UNKNOWN = "pool_unknown"
    POOL_EXISTS = "pool_exists"
    POOL_IN_USE = "pool_in_use"
    POOL_UNSUITABLE = "pool_unsuitable"
    RANGE_INVALID = "range_invalid"
    RANGE_IN_USE = "range_in_use"
    OWNER_FORBIDDEN = "owner_forbidden"
    OWNER_PINNED = "owner_pinned"
    OWNER_ATTACHED_ELSEWHERE = "owner_attached_elsewhere"
    ATTACHMENT_RELEASED = "attachment_released"
    ATTACHMENT_CONFLICT = "attachment_conflict"
    ADDRESS_UNKNOWN = "address_unknown"
    ADDRESS_IN_USE = "address_in_use"
    ADDRESS_COOLING = "address_cooling"
    ADDRESS_QUARANTINED = "address_quarantined"
    MAC_FORBIDDEN = "mac_forbidden"
    MAC_IN_USE = "mac_in_use"
    EXHAUSTED = "exhausted"
    # A node and its kernel.
    NODE_UNKNOWN = "node_unknown"
    NODE_IN_USE = "node_in_use"
    INTERFACE_EXISTS = "interface_exists"
    NETNS_UNUSABLE = "netns_unusable"
    UPLINK_MISSING = "uplink_missing"
    UPLINK_IN_USE = "uplink_in_use"
    LINK_CONFLICT = "link_conflict"
    KERNEL_REFUSED = "kernel_refused"
    ENDPOINT_BROKEN = "endpoint_broken"
    IO_FAILURE = "io_failure"
    # The system.
    PAUSED = "paused"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    NOT_PROVISIONED = "not_provisioned"
    INTERNAL = "internal"


RETRYABLE = frozenset(
    {
        Code.NETWORK_NOT_READY,
        Code.OWNER_ATTACHED_ELSEWHERE,
        Code.ADDRESS_COOLING,
        Code.PAUSED,
        Code.UNAVAILABLE,
        Code.TIMEOUT,
        Code.DEADLINE_PASSED,
    }
)


class ErrorBody(BaseModel):
    """A `ServiceError` on the wire. Unknown fields are ignored, so that codes may gain fields."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str
    retryable: bool = False
    fields: Mapping[str, Any] = Field(default_factory=dict)


class ServiceError(Exception):
    """A failure with a stable code, a message that says what to do, and named fields.

    `retryable` means: the same request may succeed later without anybody changing it.
    """

    def __init__(self, code: str, message: str, *, retryable: bool | None = None, **fields: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = code in RETRYABLE if retryable is None else retryable
        self.fields = fields

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def body(self) -> ErrorBody:
        """This error as it travels."""
        return ErrorBody(code=self.code, message=self.message, retryable=self.retryable, fields=self.fields)

    @classmethod
    def from_body(cls, body: ErrorBody) -> "ServiceError":
        """The error that a reply carried."""
        return cls(body.code, body.message, retryable=body.retryable, **dict(body.fields))
