"""Networks as tables and as facts."""

from rich.console import Console

from console.node_results import draw_node_results
from console.output import Column, draw_facts, draw_rows, say
from schemas.network import NetworkPage, NetworkView


def _subnets(view: NetworkView) -> tuple[str, ...]:
    return tuple(
        str(subnet.cidr) + (f" gateway {subnet.gateway}" if subnet.gateway is not None else "")
        for subnet in view.definition.subnets
    )


def _driver(view: NetworkView) -> str:
    driver = view.definition.driver
    on = getattr(driver, "uplink", None) or getattr(driver, "parent", None)
    vlan, vni = getattr(driver, "vlan", None), getattr(driver, "vni", None)
    told = driver.type + (f" on {on}" if on else "") + (f" vlan {vlan}" if vlan else "")
    return told + (f" vni {vni}" if vni else "")


def _used(view: NetworkView) -> str:
    return f"{view.used} of {view.total}"


_COLUMNS: tuple[Column[NetworkView], ...] = (
    Column("NETWORK", lambda view: view.network),
    Column("STATE", lambda view: view.state),
    Column("SUBNETS", lambda view: tuple(subnet.cidr for subnet in view.definition.subnets), folds=True),
    Column("USED", _used),
    Column("DRIVER", _driver, rank=2),
    Column("OWNERS", lambda view: view.definition.owners or "everybody", rank=1, folds=True),
    Column("MTU", lambda view: view.definition.mtu, rank=3),
    Column("VERSION", lambda view: view.version, rank=4),
)


def draw_networks(console: Console, page: NetworkPage) -> None:
    """One row for each network."""
    if page.networks:
        draw_rows(console, _COLUMNS, page.networks)
    else:
        say("There are no networks yet. `moorage network create` makes one.")


def draw_network(console: Console, view: NetworkView) -> None:
    """One network, and what each node says of it."""
    facts = (
        ("network", view.network),
        ("state", view.state),
        ("version", view.version),
        ("driver", _driver(view)),
        ("subnets", _subnets(view)),
        ("mtu", view.definition.mtu),
        ("owners", view.definition.owners or "everybody"),
        ("used", _used(view)),
    )
    draw_facts(console, facts)
    if view.nodes:
        console.print()
        draw_node_results(console, view.nodes)
    else:
        say("No node has been asked for it yet: `moorage node list` shows which nodes are ready.")
