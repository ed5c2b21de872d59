"""All settings of all processes: `MOORAGE_*` variables, then `/etc/moorage/moorage.toml`, then defaults."""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, IPvAnyAddress, PositiveFloat, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from broker.login import SYSTEM, Login, Trust
from compose.listen_address import split_address
from node_worker.netns_folders import NETNS_FOLDERS
from schemas.errors import Code, ServiceError
from schemas.fields import NodeName
from schemas.validation import explain

CONFIG_FILE = Path("/etc/moorage/moorage.toml")
V = TypeVar("V")


def _address(value: str) -> str:
    split_address(value)
    return value


class Settings(BaseSettings):
    """Read once, by the entry points; everything else gets what it needs as arguments.

    URLs carry passwords: they come from variables or files, never from the command line. Each may name
    several servers, and may lie in a file of its own, which is read again whenever a connection is made.
    """

    model_config = SettingsConfigDict(
        env_prefix="MOORAGE_",
        toml_file=CONFIG_FILE,
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,  # which may be a password
    )

    amqp_url: str | None = Field(
        default=None, repr=False, description="AMQP URL of RabbitMQ, with this process's user"
    )
    amqp_url_file: Path | None = Field(default=None, description="the file that holds it")
    amqp_ca: Path | None = Field(
        default=None, description="PEM of who signs RabbitMQ's certificates; whom the machine trusts if unset"
    )
    amqp_certificate: Path | None = Field(default=None, description="PEM certificate to show RabbitMQ")
    amqp_key: Path | None = Field(default=None, description="PEM private key of that certificate")
    management_url: str | None = Field(
        default=None, repr=False, description="RabbitMQ's management API, with an admin"
    )
    management_url_file: Path | None = Field(default=None, description="the file that holds it")
    database_url: str | None = Field(
        default=None, repr=False, description="mysql+pymysql:// URL; the allocator's alone"
    )
    database_url_file: Path | None = Field(default=None, description="the file that holds it")
    database_ca: str | None = Field(
        default=None,
        description=f"turns TLS on: PEM of who signs the database's certificates, or `{SYSTEM}`",
    )
    database_certificate: Path | None = Field(
        default=None, description="PEM certificate to show the database"
    )
    database_key: Path | None = Field(default=None, description="PEM private key of that certificate")
    state_dir: Path = Field(default=Path(".state/up"), description="where `moorage up` keeps its services")
    timeout_s: PositiveFloat = Field(default=10, description="how long a command waits for its answer")
    history_days: int = Field(default=400, ge=1, description="how long history and old requests are kept")

    allocator_partitions: str = Field(
        default="",
        pattern=r"^([0-9]+(,[0-9]+)*)?$",
        description="partitions this allocator serves at once, such as 0,1; all if unset",
    )

    node_name: NodeName | None = Field(default=None, description="this node's Kubernetes node name")
    node_netns: Path | None = Field(default=None, description="the netns to wire; the worker's own if unset")
    node_address: IPvAnyAddress | None = Field(
        default=None, description="where tunnels to this node end; its own towards others if unset"
    )
    reconcile_s: PositiveFloat = Field(default=30, description="how often a node looks at its networks")
    node_dir: Path = Field(default=Path("/var/lib/moorage"), description="where the node's journal lives")
    netns_folders: str = Field(
        default=":".join(map(str, NETNS_FOLDERS)),
        pattern=r"^/[^:]*(:/[^:]*)*$",
        description="where pods' namespaces may be, absolute paths with colons between; replaces the default",
    )
    cni_socket: Path = Field(default=Path("/run/moorage/cni.sock"), description="where the shim reaches us")

    console_listen: Annotated[str, AfterValidator(_address)] = Field(
        default="127.0.0.1:8480", description="HOST:PORT where `moorage console` serves REST and the page"
    )
    console_certificate: Path | None = Field(
        default=None, description="TLS certificate chain (PEM) of the console; read anew at its start"
    )
    console_key: Path | None = Field(default=None, description="the certificate's private key (PEM)")
    console_one_time_token: str | None = Field(
        default=None,
        min_length=32,
        repr=False,
        description="lets one browser in as operator, once; `moorage up` sets it",
    )
    tokens_file: Path = Field(
        default=Path("/etc/moorage/tokens.json"), description="hashes of the console's tokens"
    )
    kubeconfig: str | None = Field(
        default=None, description="where the console makes apps: a kubeconfig's path, or `in-cluster`"
    )

    monitoring: Annotated[str, AfterValidator(_address)] | None = Field(
        default=None,
        description="HOST:PORT where a process tells of its metrics and health; nowhere if unset",
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"

    def private(self) -> "Settings":
        """The same, but for no servers: whoever runs with these starts services of its own."""
        urls = ("amqp_url", "management_url", "database_url")
        return self.model_copy(update=dict.fromkeys([*urls, *(f"{name}_file" for name in urls)]))

    @property
    def broker(self) -> Login | None:
        """RabbitMQ, as this process's user."""
        return self._login("amqp_url", self._amqp_trust())

    @property
    def management(self) -> Login | None:
        """RabbitMQ's management API, as an administrator."""
        return self._login("management_url", self._amqp_trust())

    @property
    def database(self) -> Login | None:
        """The database, as the allocator's user."""
        trust = Trust(
            self.database_ca, self.database_certificate, self.database_key, setting="MOORAGE_DATABASE"
        )
        return self._login("database_url", trust)

    def trust_variables(self) -> dict[str, str]:
        """The variables by which another process trusts the same certificates, and shows the same."""
        names = [
            f"{server}_{what}" for server in ("amqp", "database") for what in ("ca", "certificate", "key")
        ]
        values = {f"MOORAGE_{name.upper()}": getattr(self, name) for name in names}
        return {name: str(value) for name, value in values.items() if value is not None}

    def _amqp_trust(self) -> Trust:
        ca = str(self.amqp_ca) if self.amqp_ca else None
        return Trust(ca, self.amqp_certificate, self.amqp_key, setting="MOORAGE_AMQP")

    def _login(self, name: str, trust: Trust) -> Login | None:
        """What one of the URLs comes to. That not both it and its file are set was checked."""
        source: str | Path | None = getattr(self, name) or getattr(self, f"{name}_file")
        return Login(source, trust) if source else None

    @model_validator(mode="after")
    def _whole(self) -> "Settings":
        for name in ("amqp_url", "management_url", "database_url"):
            if getattr(self, name) and getattr(self, f"{name}_file"):
                raise ValueError(f"{name} and {name}_file are both set: set one of them")
        for server in ("amqp", "database"):
            if bool(getattr(self, f"{server}_certificate")) != bool(getattr(self, f"{server}_key")):
                raise ValueError(
                    f"{server}_certificate and {server}_key belong together: set both, or neither"
                )
        if self.database_certificate and not self.database_ca:
            raise ValueError("database_certificate needs database_ca, which turns TLS on")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  there is no .env file
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then variables, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def read_settings() -> Settings:
    """The settings in force. Raises `invalid_request` naming each setting that cannot be used."""
    try:
        return Settings()
    except ValidationError as error:
        raise ServiceError(
            Code.INVALID_REQUEST,
            f"settings (MOORAGE_* variables or {CONFIG_FILE}) cannot be used: {explain(error)}",
        ) from error


def need(value: V | None, name: str, what: str) -> V:
    """`value`, or a `not_provisioned` error that names the setting to make."""
    if not value:
        raise ServiceError(
            Code.NOT_PROVISIONED,
            f"MOORAGE_{name} is not set: {what}. Set it{_or_its_file(name)}, or {name.lower()} in "
            f"{CONFIG_FILE}; `moorage up` starts everything on this machine and prints the settings to use",
        )
    return value


def _or_its_file(name: str) -> str:
    return f", or MOORAGE_{name}_FILE" if name.endswith("_URL") else ""
