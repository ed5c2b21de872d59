"""What one RabbitMQ node reads: its ports, its files and its whole environment."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from compose.services.identity import Identity, write_private
from compose.services.programs import search_path

ADMIN = "admin"

# The node's name ends in @localhost, which bare systems without /etc/hosts cannot look up.
_INETRC = '{host, {127,0,0,1}, ["localhost"]}.\n{lookup, [file, native]}.\n'


class Ports(NamedTuple):
    """Where the parts of one node listen, all on 127.0.0.1."""

    epmd: int
    distribution: int
    amqp: int
    management: int


def write_configuration(
    folder: Path, identity: Identity, ports: Ports, settings: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Write the node's files into `folder`, readable for their owner alone: they hold the password.

    `settings` of rabbitmq.conf are added to our own.
    """
    (folder / "conf.d").mkdir(parents=True, exist_ok=True)
    write_private(folder / "rabbitmq.conf", configuration(ports, identity.broker_password, settings))
    write_private(folder / "advanced.config", "[].\n")
    write_private(folder / "enabled_plugins", "[rabbitmq_management].\n")
    write_private(folder / "rabbitmq-env.conf", "")
    write_private(folder / "inetrc", _INETRC)
    write_private(folder / ".erlang.cookie", identity.cookie)


def configuration(ports: Ports, password: str, settings: Mapping[str, str] = MappingProxyType({})) -> str:
    """The text of rabbitmq.conf. The administrator takes the place of `guest` when the data is made."""
    lines = {
        "listeners.tcp.default": f"127.0.0.1:{ports.amqp}",
        "management.tcp.ip": "127.0.0.1",
        "management.tcp.port": str(ports.management),
        "default_vhost": "/",
        "default_user": ADMIN,
        "default_pass": password,
        "default_user_tags.administrator": "true",
        "log.console": "true",
        "log.console.use_colors": "off",
        "log.file": "false",
        **settings,
    }
    return "".join(f"{name} = {value}\n" for name, value in lines.items())


def environment(folder: Path, node: str, ports: Ports) -> dict[str, str]:
    """The whole environment of a node: every path that has a system-wide default points into `folder`."""
    return {
        "PATH": search_path(),
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "RABBITMQ_NODENAME": node,
        "RABBITMQ_DIST_PORT": str(ports.distribution),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONFIG_FILES": str(folder / "conf.d"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
        "RABBITMQ_PID_FILE": str(folder / "rabbitmq.pid"),
        "ERL_CRASH_DUMP_SECONDS": "0",  # a dump takes seconds, and only Erlang's developers read it
        "ERL_INETRC": str(folder / "inetrc"),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(ports.epmd),
        # For every Erlang that runs here, the short-lived ones of the scripts too: speak on loopback alone,
        # and never start an epmd, which would outlive us.
        "ERL_FLAGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
        # The script then becomes the server instead of staying as its parent, so the pid is the server's.
        "RUNNING_UNDER_SYSTEMD": "true",
    }
