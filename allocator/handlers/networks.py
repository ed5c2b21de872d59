"""`network.create`."""

from datetime import datetime, timedelta

from allocator import rollout
from allocator.handlers.administrative import earlier, succeeded, waiters
from allocator.model import Network
from allocator.policy import initial_ranges
from allocator.store import networks, pools, requests
from allocator.views import network_view
from allocator.work import Work
from broker.outcome import DEFERRED, Delivery, Outcome, Reply
from schemas.errors import Code, ServiceError
from schemas.network import NetworkCreate, NetworkDefinition
from schemas.pool import DEFAULT_POOL

_DEFAULT_COOLDOWN_S = 120


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
            f"network {network.name} is being taken back from the nodes; try again in a moment",
            network=network.name,
            state=network.state,
        )
    if network.definition != request.definition:
        raise _other_definition(network, request.definition)
    if network.state == "creating":
        # One job, one deadline: an impatient second caller must not fail what the first one waits for.
        deadline = requests.open_deadline(work.connection, network.id)
        _add_job(request, delivery, work, network.id, deadline)
        return DEFERRED
    view = network_view(work.connection, network)
    requests.add(work.connection, network.id, request, work.now, answer=succeeded(view))
    return Reply(view)


def _start(request: NetworkCreate, delivery: Delivery, work: Work, tombstone: Network | None) -> None:
    definition = request.definition
    if tombstone is None:
        version = work.next_version(0)
        network_id, seq = networks.add(work.connection, request.network, definition, version, work.now)
        work.begin_history(network_id, seq)
    else:
        network_id, version = tombstone.id, work.next_version(tombstone.version)
        networks.revive(work.connection, network_id, definition, version, work.now)
    networks.add_subnets(work.connection, network_id, definition)
    pool_id = pools.add(work.connection, network_id, DEFAULT_POOL, "shared", (), _DEFAULT_COOLDOWN_S)
    parts = [part for subnet in definition.subnets for part in initial_ranges(subnet, pool_id)]
    pools.add_ranges(work.connection, network_id, parts)
    _add_job(request, delivery, work, network_id, None)
    details = {"definition": definition.model_dump(mode="json")}
    work.record(network_id, "network.created", delivery.user_id, details=details)
    rollout.start(work, work.reload(request.network), delivery.user_id)


def _add_job(
    request: NetworkCreate, delivery: Delivery, work: Work, network_id: int, deadline: datetime | None
) -> None:
    requests.add(
        work.connection,
        network_id,
        request,
        work.now,
        answer=None,
        waiters=waiters(delivery),
        deadline=deadline or work.now + timedelta(seconds=request.deadline_s),
    )


def _other_definition(network: Network, wanted: NetworkDefinition) -> ServiceError:
    has, asked = network.definition.model_dump(mode="json"), wanted.model_dump(mode="json")
    differing = sorted(field for field in asked if asked[field] != has[field])
    told = "; ".join(f"{field}: it has {has[field]}, asked for {asked[field]}" for field in differing)
    return ServiceError(
        Code.NETWORK_EXISTS,
        f"network {network.name} exists with another definition ({told}). Take another name, or ask for "
        "the same definition",
        network=network.name,
        differing=differing,
    )
