"""Prints the `moorage address reserve` commands for the addresses that pods have by another plugin.

    kubectl get ippools.whereabouts.cni.cncf.io -A -o json | old_addresses.py whereabouts NETWORK
    kubectl get pods -A -o json | old_addresses.py calico NETWORK
    crictl pods -o json | old_addresses.py host-local NETWORK /var/lib/cni/networks/NAME    on each node

It changes nothing: read what it prints, then run that. It needs Python 3.8 alone. See docs/migration.md.
"""

import ipaddress
import json
import shlex
import sys
from pathlib import Path

FIXED = "cni.projectcalico.org/ipAddrs"
"""Calico's annotation: a JSON list of addresses, as text."""


def whereabouts(content, _folder):
    """IPPools: each allocation is under its distance from the range's first address, and names its pod."""
    for pool in content["items"]:
        first = ipaddress.ip_interface(pool["spec"]["range"]).ip
        for distance, allocation in pool["spec"]["allocations"].items():
            yield allocation["podref"], allocation.get("ifname") or "net1", first + int(distance)


def calico(content, _folder):
    """Pods: those with the annotation for a fixed address."""
    for pod in content["items"]:
        meta = pod["metadata"]
        for address in json.loads(meta.get("annotations", {}).get(FIXED, "[]")):
            yield "{namespace}/{name}".format(**meta), "eth0", ipaddress.ip_address(address)


def host_local(content, folder):
    """A file for each address, with the sandbox's id and the interface; the runtime knows whose it is."""
    sandboxes = {item["id"]: "{namespace}/{name}".format(**item["metadata"]) for item in content["items"]}
    for file in Path(folder).iterdir():
        try:
            address = ipaddress.ip_address(file.name)
        except ValueError:
            continue  # the lock, and which address was given out last
        sandbox, _, ifname = file.read_text().partition("\n")
        if sandbox.strip() in sandboxes:
            yield sandboxes[sandbox.strip()], ifname.strip() or "eth0", address
        else:
            print(f"{address}: no pod of this node has sandbox {sandbox.strip()}", file=sys.stderr)


READERS = {"whereabouts": whereabouts, "calico": calico, "host-local": host_local}


def commands(source, network, content, folder=None):
    """One command for each owner and interface, in order of the addresses."""
    held = {}
    for owner, ifname, address in READERS[source](content, folder):
        held.setdefault((owner, ifname), []).append(address)
    ordered = {key: sorted(found, key=lambda each: (each.version, int(each))) for key, found in held.items()}
    for (owner, ifname), addresses in sorted(ordered.items(), key=lambda item: int(item[1][0])):
        words = ["moorage", "address", "reserve", network, owner]
        for address in addresses:
            words += ["--address", str(address)]
        yield shlex.join(words + ([] if ifname == "eth0" else ["--ifname", ifname]))


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in READERS:
        sys.exit(__doc__)
    for command in commands(sys.argv[1], sys.argv[2], json.load(sys.stdin), *sys.argv[3:]):
        print(command)
