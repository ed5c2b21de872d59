"""`network.create` and `network.update`: jobs that wait for the nodes."""

from datetime import datetime, timedelta

from pydantic import ValidationError

from allocator import rollout
from allocator.handlers.administrative import check_version, earlier, succeeded, waiters
from allocator.model import Network
from allocator.ranges import initial_ranges
from allocator.store import networks, pools, requests
from allocator.views import network_view
from allocator.work import Work
from broker.outcome import DEFERRED, Delivery, Outcome, Reply
from schemas.drivers import Driver, VxlanDriver
from schemas.errors import Code, ServiceError
from schemas.network import NetworkCreate, NetworkDefinition, NetworkDelete, NetworkUpdate
from schemas.pool import DEFAULT_POOL, PoolSettings
from schemas.validation import explain


def create(request: NetworkCreate, delivery: Delivery, work: Work) -> Outcome:
    """Start a network on every ready node; answered by the job when all have reported (DESIGN section 4)."""
    network = work.find_network(request.network)
    known = earlier(request, delivery, work)
    if known is not None:
        return known
    if network is None or network.state == "deleted":
        _start(request, delivery, work, network)
        return DEFERRED
    if network.state == "deleting":  # whatever its definition is, its name will be free
        raise ServiceError(
            Code.NETWORK_NOT_READY,
            f"network {network.name} is being removed from the nodes; its name is free once all have "
            f"removed it (`moorage network show {network.name}`)",
            network=network.name,
            state=network.state,
        )
    if network.definition != request.definition:
        raise _other_definition(network, request.definition)
    if network.state == "creating":
        # One job, one deadline: an impatient second caller must not fail what the first one waits for.
        deadline = requests.open_deadline(work.connection, network.id)
        add_job(request, delivery, work, network.id, deadline)
        return DEFERRED
    view = network_view(work.connection, network)
    requests.add(work.connection, network.id, request, work.now, answer=succeeded(view))
    return Reply(view)


def _start(request: NetworkCreate, delivery: Delivery, work: Work, tombstone: Network | None) -> None:
    definition = request.definition
    _check_number(work, definition.driver)
    if tombstone is None:
        version = work.next_version(0)
        network_id, seq = networks.add(work.connection, request.network, definition, version, work.now)
        work.begin_history(network_id, seq)
    else:
        network_id, version = tombstone.id, work.next_version(tombstone.version)
        networks.revive(work.connection, network_id, definition, version, work.now)
    networks.add_subnets(work.connection, network_id, definition.subnets)
    pool_id = pools.add(work.connection, network_id, DEFAULT_POOL, "shared", PoolSettings(), version)
    parts = [part for subnet in definition.subnets for part in initial_ranges(subnet, pool_id)]
    pools.add_ranges(work.connection, network_id, parts)
    add_job(request, delivery, work, network_id, None)
    details = {"definition": definition.model_dump(mode="json")}
    work.record(network_id, "network.created", delivery.user_id, actor=request.actor, details=details)
    rollout.start(work, work.reload(request.network), delivery.user_id)


def _check_number(work: Work, driver: Driver) -> None:
    """Raise `network_exists` where another network has the same number in the tunnels.

    Two that are created at the same moment may both pass: the kernel of each node takes but one.
    """
    if not isinstance(driver, VxlanDriver):
        return
    for name, other in networks.with_tunnels(work.connection):
        if isinstance(other.driver, VxlanDriver) and (other.driver.vni, other.driver.port) == (
            driver.vni,
            driver.port,
        ):
            raise ServiceError(
                Code.NETWORK_EXISTS,
                f"network {name} has VNI {driver.vni} on port {driver.port} already: take another VNI",
                network=name,
                differing=["driver"],
            )


def update(request: NetworkUpdate, delivery: Delivery, work: Work) -> Outcome:
    """Change a live network; answered by the job when all ready nodes have reported the new version.

    New addresses can be given out at once: a node attaches nobody before it has the network's version.
    """
    network = work.network(request.network)
    known = earlier(request, delivery, work)
    if known is not None:
        return known
    if network.state not in ("active", "failed"):
        raise ServiceError(
            Code.NETWORK_NOT_READY,
            f"network {network.name} is {network.state}; change it once it is active",
            network=network.name,
            state=network.state,
        )
    check_version(f"network {network.name}", network.version, request.expected_version)
    definition = _changed(network, request)
    version = work.next_version(network.version)
    networks.redefine(work.connection, network.id, definition, version)
    if request.add_subnets:
        networks.add_subnets(work.connection, network.id, request.add_subnets)
        default = next(pool for pool in network.pools if pool.is_default)
        parts = [part for subnet in request.add_subnets for part in initial_ranges(subnet, default.id)]
        pools.add_ranges(work.connection, network.id, parts)
    add_job(request, delivery, work, network.id, None)
    details = {"definition": definition.model_dump(mode="json")}
    work.record(network.id, "network.updated", delivery.user_id, actor=request.actor, details=details)
    rollout.start(work, work.reload(network.name), delivery.user_id)
    return DEFERRED


def _changed(network: Network, request: NetworkUpdate) -> NetworkDefinition:
    before = network.definition
    owners = before.owners if request.owners is None else request.owners
    subnets = before.subnets + request.add_subnets
    mtu = before.mtu if request.mtu is None else request.mtu
    try:
        return NetworkDefinition(
            driver=before.driver, subnets=subnets, mtu=mtu, owners=owners, probe=before.probe
        )
    except ValidationError as error:
        raise ServiceError(
            Code.SUBNET_CONFLICT,
            f"network {network.name} cannot be changed so: {explain(error)}. See `moorage network show "
            f"{network.name}`",
            network=network.name,
        ) from error


def add_job(
    request: NetworkCreate | NetworkUpdate | NetworkDelete,
    delivery: Delivery,
    work: Work,
    network_id: int,
    deadline: datetime | None,
) -> None:
    """Have the sender answered when the network is settled, at its or the given deadline at the latest."""
    requests.add(
        work.connection,
        network_id,
        request,
        work.now,
        answer=None,
        waiters=waiters(delivery),
        deadline=deadline or work.now + timedelta(seconds=request.deadline_s),
        keep_going=isinstance(request, NetworkCreate) and request.keep_going,
    )


def _other_definition(network: Network, wanted: NetworkDefinition) -> ServiceError:
    has, asked = network.definition.model_dump(mode="json"), wanted.model_dump(mode="json")
    differing = sorted(field for field in asked if asked[field] != has[field])
    told = "; ".join(f"{field}: it has {has[field]}, asked for {asked[field]}" for field in differing)
    return ServiceError(
        Code.NETWORK_EXISTS,
        f"network {network.name} exists with another definition ({told}). Take another name, ask for the "
        f"same definition, or change it (`moorage network update {network.name}`)",
        network=network.name,
        differing=differing,
    )
