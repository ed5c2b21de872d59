"""Many nodes enrolled at once: `provisioning.enroll_node` asks the broker half a dozen times for each."""

import os
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from broker import topology
from broker.management import Management
from broker.permissions import Permissions, permissions_of, user_name

_AT_ONCE = 250
_SALT_BYTES = 4


def import_nodes(management_url: str, names: Sequence[str], *, vhost: str, password: str) -> None:
    """Make the queues and users of these nodes, each with a node's own permissions and no others.

    They are imported as definitions (rabbitmq-website, definitions). Raises what `Management.post` raises.
    """
    with Management(management_url) as api:
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            users = [(user_name("node", name), permissions_of("node", name)) for name in some]
            queues = [topology.queue_of_node(name) for name in some]
            api.post("definitions", body=definitions(users, queues, vhost=vhost, password=password))


def definitions(
    users: Sequence[tuple[str, Permissions]],
    queues: Sequence[topology.Queue] = (),
    *,
    vhost: str,
    password: str,
    tags: str = "",
) -> dict[str, Any]:
    """What RabbitMQ imports to make these queues, and these users with one password."""
    secret = {"password_hash": _hashed(password), "hashing_algorithm": "rabbit_password_hashing_sha256"}
    return {
        "users": [{"name": user, "tags": tags, **secret} for user, _ in users],
        "permissions": [
            {"user": user, "vhost": vhost, "configure": may.configure, "write": may.write, "read": may.read}
            for user, may in users
        ],
        "topic_permissions": [
            {
                "user": user,
                "vhost": vhost,
                "exchange": topology.REQUESTS_EXCHANGE,
                "write": may.sends,
                "read": "^$",
            }
            for user, may in users
        ],
        "queues": [
            {
                "name": queue.name,
                "vhost": vhost,
                "durable": queue.durable,
                "auto_delete": False,
                "arguments": dict(queue.arguments),
            }
            for queue in queues
        ],
    }


def _hashed(password: str) -> str:
    """As RabbitMQ keeps a password (rabbitmq-website, passwords): a salt, and SHA-256 of it and the text."""
    salt = os.urandom(_SALT_BYTES)
    return b64encode(salt + sha256(salt + password.encode()).digest()).decode()
