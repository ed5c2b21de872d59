"""The broker: whether it lets this user in, is as it was provisioned, and is read from."""

import asyncio

from broker import audit, inspection, topology
from broker.inspection import QueueDepth
from broker.permissions import ALLOCATOR
from compose.doctor.site import Site
from compose.doctor.verdict import Skipped, Verdict, counted, fail, listed, ok, warn
from schemas.errors import Code, ServiceError
from schemas.requests import sender

_DEEP = 1000
"""Messages in one queue from which on somebody should look: allocators take thousands a second."""

_SERVED = (
    *(topology.allocator_queue(p) for p in range(topology.PARTITIONS)),
    topology.HEARTBEATS,
    topology.QUERIES_QUEUE,
)
_START = "start an allocator: `moorage allocator`; its log says what it waits for"
_PROVISION = (
    "`moorage broker provision`, and `moorage node enroll` or `moorage client enroll` for their queues"
)


def login(site: Site) -> Verdict:
    """Whether the broker can be reached and lets this user in."""
    return ok(f"{asyncio.run(inspection.log_in(site.broker))} lets this user in")


def permissions(site: Site) -> Verdict:
    """Whether the users may do what enrolling gives them."""
    enrolment = audit.enrolment(site.management, site.vhost)
    user = inspection.user_of(site.settings.broker) if site.settings.broker else ""
    if user and user not in enrolment.users:
        return fail(
            f"user {user} is none that enrolling makes on virtual host {site.vhost}",
            "`moorage client enroll NAME --role operator`, and set MOORAGE_AMQP_URL to what it prints",
        )
    if enrolment.faults:
        told = [f"{name} {fault}" for name, fault in enrolment.faults.items()]
        advice = " and ".join(sorted({_enrolling(name) for name in enrolment.faults}))
        return (fail if user in enrolment.faults else warn)(listed(told), f"enroll again: {advice}")
    return ok(f"{counted(len(enrolment.users), 'user')} as enrolled")


def _enrolling(user: str) -> str:
    if user == ALLOCATOR:
        return "`moorage broker provision`"
    role = sender(user)
    return (
        "`moorage node enroll NAME`"
        if role and role[0] == "node"
        else "`moorage client enroll NAME --role ROLE`"
    )


def topology_(site: Site) -> Verdict:
    """Whether exchanges, queues and bindings are as declared; without the API, whether they are there."""
    if site.settings.management:
        faults = audit.topology_faults(site.management, site.vhost)
        return (
            fail(listed(faults), _PROVISION) if faults else ok("exchanges, queues and bindings as declared")
        )
    names = (topology.DEAD, *_SERVED)
    exchanges = [exchange.name for exchange in topology.EXCHANGES]
    seen = asyncio.run(inspection.depths(site.broker, names))
    absent = asyncio.run(inspection.missing_exchanges(site.broker, exchanges))
    faults = [f"there is no exchange {name}" for name in absent]
    faults += [f"there is no queue {name}" for name, found in seen.items() if isinstance(found, ServiceError)]
    if faults:
        return fail(listed(faults), _PROVISION)
    return ok(
        "exchanges and queues are there; MOORAGE_MANAGEMENT_URL would tell their arguments and bindings"
    )


def consumers(site: Site) -> Verdict:
    """Whether somebody reads from each queue that allocators serve, and keeps up."""
    seen = asyncio.run(inspection.depths(site.broker, _SERVED))
    known = {name: found for name, found in seen.items() if isinstance(found, QueueDepth)}
    if len(known) < len(seen):
        return fail(f"{counted(len(seen) - len(known), 'queue')} cannot be seen", "see the check topology")
    idle = [f"{name} ({found.messages} waiting)" for name, found in known.items() if not found.consumers]
    if idle:
        return fail(f"nobody reads {listed(idle)}", _START)
    waiting = sum(found.messages for found in known.values())
    deep = [f"{name} holds {found.messages}" for name, found in known.items() if found.messages >= _DEEP]
    if deep:
        return warn(
            listed(deep),
            "run this again: if it grows, start another allocator, and look at the database's load",
        )
    return ok(f"all {len(known)} queues are read; waiting in them: {counted(waiting, 'message')}")


def alarms(site: Site) -> Verdict:
    """Whether RabbitMQ blocks who publishes, or lacks nodes of its cluster."""
    faults = audit.alarms(site.management)
    if faults:
        return fail(listed(faults), "`rabbitmqctl list_alarms` and `rabbitmqctl cluster_status` there")
    return ok("none")


def dead_letters(site: Site) -> Verdict:
    """Whether there are messages that nobody could serve."""
    found = asyncio.run(inspection.depths(site.broker, [topology.DEAD]))[topology.DEAD]
    if isinstance(found, ServiceError):
        if found.code == Code.SENDER_FORBIDDEN:
            raise Skipped(found.message)
        return fail(found.message, _PROVISION)
    if found.messages:
        return warn(
            f"{counted(found.messages, 'message')} could not be served", "`moorage dead list` says why"
        )
    return ok("none")
