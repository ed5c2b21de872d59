"""Settings that say where servers are, as whom to log in there, and whom to trust."""

import traceback
from pathlib import Path
from typing import Any

import pytest

from broker.login import Login, Trust
from compose.settings import Settings, read_settings
from schemas.errors import Code, ServiceError

SECRET = "hunter2"
URLS = ("amqp_url", "management_url", "database_url")
SERVERS = {"amqp_url": "broker", "management_url": "management", "database_url": "database"}


@pytest.fixture(autouse=True)
def _none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in URLS:
        monkeypatch.delenv(f"MOORAGE_{name.upper()}", raising=False)
        monkeypatch.delenv(f"MOORAGE_{name.upper()}_FILE", raising=False)


def told(monkeypatch: pytest.MonkeyPatch, **settings: str) -> Settings:
    for name, value in settings.items():
        monkeypatch.setenv(f"MOORAGE_{name.upper()}", value)
    return read_settings()


def refusal(monkeypatch: pytest.MonkeyPatch, **settings: str) -> str:
    with pytest.raises(ServiceError) as caught:
        told(monkeypatch, **settings)
    assert caught.value.code == Code.INVALID_REQUEST
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return caught.value.message


@pytest.mark.parametrize("name", URLS)
def test_a_url_and_its_file_are_not_both_set(monkeypatch: pytest.MonkeyPatch, name: str):
    both = {name: f"x:{SECRET}", f"{name}_file": "/x"}
    assert f"{name} and {name}_file are both set" in refusal(monkeypatch, **both)


@pytest.mark.parametrize("name", URLS)
def test_a_login_is_the_url_or_the_file_that_holds_it(monkeypatch: pytest.MonkeyPatch, name: str):
    assert getattr(told(monkeypatch), SERVERS[name]) is None
    settings = told(monkeypatch, **{f"{name}_file": "/run/url"})
    assert getattr(settings, SERVERS[name]).source == Path("/run/url")
    settings = told(monkeypatch, **{name: "scheme://x", f"{name}_file": ""})
    assert getattr(settings, SERVERS[name]).source == "scheme://x"


@pytest.mark.parametrize("server", ["amqp", "database"])
@pytest.mark.parametrize("half", ["certificate", "key"])
def test_a_certificate_needs_its_key_and_a_key_its_certificate(
    monkeypatch: pytest.MonkeyPatch, server: str, half: str
):
    said = refusal(monkeypatch, **{f"{server}_{half}": "/x", "database_ca": "system"})
    assert f"{server}_certificate and {server}_key belong together" in said


def test_a_certificate_for_the_database_needs_tls_to_be_on(monkeypatch: pytest.MonkeyPatch):
    """Or it would be shown to nobody, and the password to everybody."""
    both = {"database_certificate": "/c", "database_key": "/k"}
    assert "database_ca, which turns TLS on" in refusal(monkeypatch, **both)
    assert told(monkeypatch, database_ca="system", **both).database_certificate == Path("/c")


def test_management_api_and_broker_trust_the_same(monkeypatch: pytest.MonkeyPatch):
    settings = told(
        monkeypatch,
        amqp_url="amqps://x",
        management_url="https://x",
        database_url="x",
        amqp_ca="/a",
        amqp_certificate="/c",
        amqp_key="/k",
        database_ca="/d",
    )
    trust = Trust("/a", Path("/c"), Path("/k"), setting="MOORAGE_AMQP")
    assert settings.broker == Login("amqps://x", trust)
    assert settings.management == Login("https://x", trust)
    assert settings.database == Login("x", Trust("/d", setting="MOORAGE_DATABASE"))


def test_private_settings_name_no_server_and_keep_the_rest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    settings = told(
        monkeypatch,
        amqp_url="x",
        management_url_file="/x",
        database_url="x",
        state_dir=str(tmp_path),
        database_ca="system",
    ).private()
    assert (settings.broker, settings.management, settings.database) == (None, None, None)
    assert settings.state_dir == tmp_path


def test_another_process_trusts_the_same_by_variables(monkeypatch: pytest.MonkeyPatch):
    given: dict[str, Any] = {
        "amqp_ca": "/a",
        "amqp_certificate": "/c",
        "amqp_key": "/k",
        "database_ca": "system",
    }
    variables = told(monkeypatch, amqp_url=f"amqps://u:{SECRET}@a", **given).trust_variables()
    assert variables == {f"MOORAGE_{name.upper()}": value for name, value in given.items()}
    assert SECRET not in str(variables)


def test_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch):
    """They are an argument of much, and a traceback may show arguments."""
    secrets = dict.fromkeys([*URLS, "console_one_time_token"], f"scheme://u:{SECRET * 5}@h/")
    settings = told(monkeypatch, **secrets)
    assert settings.amqp_url is not None and SECRET in settings.amqp_url
    assert SECRET not in repr(settings) and SECRET not in str(settings)


def test_a_secret_that_cannot_be_used_is_not_repeated(monkeypatch: pytest.MonkeyPatch):
    assert "console_one_time_token" in refusal(monkeypatch, console_one_time_token=f"{SECRET}")
