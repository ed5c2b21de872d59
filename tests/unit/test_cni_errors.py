"""What a runtime is told when something fails."""

import pytest

from cni.errors import INTERNAL, SERVICE_CODES, CniError, SpecCode, from_exception, from_service_error
from schemas.address import AddressAllocate
from schemas.errors import RETRYABLE, Code, ServiceError

# Runtimes, dashboards and runbooks know these numbers: a change here breaks them.
PUBLISHED = {
    "internal": 100,
    "network_unknown": 101,
    "pool_unknown": 102,
    "owner_forbidden": 103,
    "exhausted": 104,
    "attachment_released": 105,
    "attachment_conflict": 106,
    "address_unknown": 107,
    "interface_exists": 110,
    "netns_unusable": 111,
    "uplink_missing": 112,
    "uplink_in_use": 113,
    "link_conflict": 114,
    "kernel_refused": 115,
    "node_unknown": 116,
    "endpoint_broken": 117,
    "network_not_ready": 120,
    "owner_attached_elsewhere": 121,
    "unavailable": 122,
    "timeout": 123,
    "deadline_passed": 124,
    "not_provisioned": 130,
    "sender_forbidden": 131,
    "invalid_request": 132,
    "unsupported_version": 133,
    "unknown_request": 134,
    "too_large": 135,
    "unreadable": 136,
    "request_conflict": 137,
    "pool_unsuitable": 140,
    "owner_pinned": 141,
    "address_in_use": 142,
    "address_quarantined": 143,
    "mac_forbidden": 144,
    "mac_in_use": 145,
    "network_unsuitable": 146,
}


def test_the_published_numbers_stay() -> None:
    assert {str(code): number for code, number in SERVICE_CODES.items()} == PUBLISHED


def test_every_number_of_ours_is_above_the_specifications_and_used_once() -> None:
    numbers = list(SERVICE_CODES.values())
    assert min(numbers) >= 100
    assert 999 not in numbers
    assert len(set(numbers)) == len(numbers)


def test_every_no_to_an_allocate_has_a_number_or_may_pass() -> None:
    named = {code for code in Code if f"`{code}`" in (AddressAllocate.__doc__ or "")}
    assert len(named) > 10
    assert named - RETRYABLE <= set(SERVICE_CODES)


@pytest.mark.parametrize("code", sorted(RETRYABLE))
def test_what_may_pass_is_code_11_and_keeps_its_name(code: Code) -> None:
    error = from_service_error(ServiceError(code, "wait"))
    assert (error.code, error.msg, error.details) == (SpecCode.TRY_AGAIN_LATER, "wait", code.value)


@pytest.mark.parametrize("retryable", [True, False])
def test_a_disk_that_fails_is_the_specifications_code_5(retryable: bool) -> None:
    error = from_service_error(ServiceError(Code.IO_FAILURE, "make room", retryable=retryable))
    assert (error.code, error.msg, error.details) == (SpecCode.IO_FAILURE, "make room", "io_failure")


def test_a_business_no_has_a_number_of_its_own_and_keeps_its_name() -> None:
    error = from_service_error(ServiceError(Code.EXHAUSTED, "pool web is full: enlarge it", pool="web"))
    assert (error.code, error.msg, error.details) == (104, "pool web is full: enlarge it", "exhausted")


def test_a_sender_may_say_that_a_failure_passes_or_does_not() -> None:
    assert from_service_error(ServiceError(Code.EXHAUSTED, "x", retryable=True)).code == 11
    assert from_service_error(ServiceError(Code.UNAVAILABLE, "x", retryable=False)).code == 122


def test_a_code_from_a_newer_allocator_is_internal_but_keeps_its_name() -> None:
    error = from_service_error(ServiceError("moon_phase_wrong", "wait for the moon"))
    assert (error.code, error.details) == (INTERNAL, "moon_phase_wrong")


@pytest.mark.parametrize(
    "text",
    [
        "netns not found",
        "NOT FOUND",
        "open /x: no such file or directory",
        "No such file or directory",
        "nonot foundt found",
        "no such no such file or directoryfile or directory not found",
    ],
)
def test_no_error_holds_a_text_that_go_cni_takes_for_success(text: str) -> None:
    for error in (
        CniError(7, text, text),
        from_service_error(ServiceError(Code.KERNEL_REFUSED, text)),
        from_service_error(ServiceError(text, text)),
    ):
        for said in (error.msg, error.details, str(error)):
            assert "not found" not in said.lower()
            assert "no such file or directory" not in said.lower()


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError("x"), BrokenPipeError()])
def test_what_was_waited_for_in_vain_is_code_11(error: Exception) -> None:
    assert from_exception(error).code == 11


def test_an_unforeseen_error_is_internal_and_shows_its_kind_but_not_its_text() -> None:
    error = from_exception(KeyError("password=hunter2"))
    assert (error.code, error.details) == (INTERNAL, "internal")
    assert "KeyError" in error.msg
    assert "hunter2" not in error.msg


def test_an_endless_text_is_cut() -> None:
    assert len(CniError(7, "x" * 1_000_000).msg) <= 2000
