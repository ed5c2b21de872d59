"""A failure as CNI knows it: a code, a message, details; and how a `ServiceError` becomes one.

Codes below 100 are the specification's (SPEC, section "Error", and libcni's skel). Those from 100 on are
ours, one for each service code that can reach a pod. They are part of the product's interface: a number is
never given to another meaning. A retryable failure is 11, or 5 where it is a disk's; `details` is the service
code's name.
"""

import re
from collections.abc import Mapping
from enum import IntEnum

from schemas.errors import Code, ServiceError

_LONGEST = 2000


class SpecCode(IntEnum):
    """The codes that the specification and libcni's skel give a meaning."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    INVALID_ENVIRONMENT = 4
    IO_FAILURE = 5
    DECODING_FAILURE = 6
    INVALID_CONFIG = 7
    INVALID_NETNS = 8
    TRY_AGAIN_LATER = 11
    NOT_AVAILABLE = 50
    LIMITED_CONNECTIVITY = 51


INTERNAL = 100

_SPEC_CODES: Mapping[str, SpecCode] = {Code.IO_FAILURE: SpecCode.IO_FAILURE}
"""Service codes that the specification has a number for, whether they may pass or not."""

SERVICE_CODES: Mapping[str, int] = {
    Code.INTERNAL: INTERNAL,
    # The network, the pool and who may use them.
    Code.NETWORK_UNKNOWN: 101,
    Code.POOL_UNKNOWN: 102,
    Code.OWNER_FORBIDDEN: 103,
    Code.EXHAUSTED: 104,
    Code.ATTACHMENT_RELEASED: 105,
    Code.ATTACHMENT_CONFLICT: 106,
    Code.ADDRESS_UNKNOWN: 107,
    # The node and its kernel.
    Code.INTERFACE_EXISTS: 110,
    Code.NETNS_UNUSABLE: 111,
    Code.UPLINK_MISSING: 112,
    Code.UPLINK_IN_USE: 113,
    Code.LINK_CONFLICT: 114,
    Code.KERNEL_REFUSED: 115,
    Code.NODE_UNKNOWN: 116,
    Code.ENDPOINT_BROKEN: 117,
    # What is usually retryable, for when its sender says that it is not.
    Code.NETWORK_NOT_READY: 120,
    Code.OWNER_ATTACHED_ELSEWHERE: 121,
    Code.UNAVAILABLE: 122,
    Code.TIMEOUT: 123,
    Code.DEADLINE_PASSED: 124,
    # The message between node worker and allocator.
    Code.NOT_PROVISIONED: 130,
    Code.SENDER_FORBIDDEN: 131,
    Code.INVALID_REQUEST: 132,
    Code.UNSUPPORTED_VERSION: 133,
    Code.UNKNOWN_REQUEST: 134,
    Code.TOO_LARGE: 135,
    Code.UNREADABLE: 136,
    Code.REQUEST_CONFLICT: 137,
    # What a pod wished for and does not get.
    Code.POOL_UNSUITABLE: 140,
    Code.OWNER_PINNED: 141,
    Code.ADDRESS_IN_USE: 142,
    Code.ADDRESS_QUARANTINED: 143,
    Code.MAC_FORBIDDEN: 144,
    Code.MAC_IN_USE: 145,
    Code.NETWORK_UNSUITABLE: 146,
}


class CniError(Exception):
    """A verb's failure, ready to be printed. Its texts never hold what go-cni takes for success."""

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        self.code = int(code)
        self.msg = _harmless(msg)
        self.details = _harmless(details)
        super().__init__(self.msg)

    def __str__(self) -> str:
        return f"CNI {self.code}: {self.msg}"


def from_service_error(error: ServiceError) -> CniError:
    """`error` for a runtime: the specification's number for it, 11 if it may pass, else ours (or 100)."""
    number: int | None = _SPEC_CODES.get(error.code)
    if number is None:
        number = SpecCode.TRY_AGAIN_LATER if error.retryable else SERVICE_CODES.get(error.code, INTERNAL)
    return CniError(number, error.message, str(error.code))


def from_exception(error: Exception) -> CniError:
    """Any handler's failure for a runtime: 11 for what time may heal, 100 for what nobody foresaw."""
    if isinstance(error, CniError):
        return error
    if isinstance(error, ServiceError):
        return from_service_error(error)
    if isinstance(error, (TimeoutError, ConnectionError)):
        return CniError(
            SpecCode.TRY_AGAIN_LATER,
            "the node worker waited in vain for something it needs: see its log; the call may be tried again",
            str(Code.UNAVAILABLE),
        )
    kind = type(error).__name__
    return CniError(
        INTERNAL, f"the node worker failed unexpectedly ({kind}): see its log", str(Code.INTERNAL)
    )


def _harmless(text: str) -> str:
    """`text` without the words for which go-cni takes a failed DEL for done (go-cni, cni.go, Remove)."""
    text = re.sub("no such file or directory", "missing path", text[:_LONGEST], flags=re.IGNORECASE)
    return re.sub("not found", "missing", text, flags=re.IGNORECASE)
