"""All settings of all processes: `MOORAGE_*` variables, then `/etc/moorage/moorage.toml`, then defaults."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, IPvAnyAddress, PositiveFloat, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from compose.listen_address import split_address
from node_worker.netns_folders import NETNS_FOLDERS
from schemas.errors import Code, ServiceError
from schemas.fields import NodeName
from schemas.validation import explain

CONFIG_FILE = Path("/etc/moorage/moorage.toml")


def _address(value: str) -> str:
    split_address(value)
    return value


class Settings(BaseSettings):
    """Read once, by the entry points; everything else gets what it needs as arguments.

    URLs carry passwords: they come from variables or the file, never from the command line.
    """

    model_config = SettingsConfigDict(
        env_prefix="MOORAGE_", toml_file=CONFIG_FILE, extra="ignore", frozen=True, env_ignore_empty=True
    )

    amqp_url: str | None = Field(default=None, description="AMQP URL of RabbitMQ, with this process's user")
    management_url: str | None = Field(default=None, description="RabbitMQ's management API, with an admin")
    database_url: str | None = Field(default=None, description="mysql+pymysql:// URL; the allocator's alone")
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
        default=None, min_length=32, description="lets one browser in as operator, once; `moorage up` sets it"
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
        return self.model_copy(update={"amqp_url": None, "management_url": None, "database_url": None})

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


def need(value: str | None, name: str, what: str) -> str:
    """`value`, or a `not_provisioned` error that names the setting to make."""
    if not value:
        raise ServiceError(
            Code.NOT_PROVISIONED,
            f"MOORAGE_{name} is not set: {what}. Set it, or {name.lower()} in {CONFIG_FILE}; "
            "`moorage up` starts everything on this machine and prints the settings to use",
        )
    return value
