"""The objects of a Kubernetes API, who set which of their fields, and what happened to them."""

import copy
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

Object = dict[str, Any]
Key = tuple[str, str, str]
"""Resource, namespace (empty where there is none) and name."""

KINDS = {
    "namespaces": ("v1", "Namespace"),
    "pods": ("v1", "Pod"),
    "nodes": ("v1", "Node"),
    "deployments": ("apps/v1", "Deployment"),
    "statefulsets": ("apps/v1", "StatefulSet"),
}


@dataclass
class Store:
    """Every change gets the next resource version; those up to `compacted` are forgotten."""

    objects: dict[Key, Object] = field(default_factory=dict)
    owners: dict[Key, dict[str, tuple[str, Any]]] = field(default_factory=dict)
    """Of each object: its fields, who set them last, and to what."""
    events: list[tuple[int, str, str, Object]] = field(default_factory=list)
    version: int = 100
    compacted: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def put(self, resource: str, item: Mapping[str, Any]) -> Object:
        """Make or replace an object, as a controller or a person does."""
        with self.changed:
            found = copy.deepcopy(dict(item))
            metadata = found.setdefault("metadata", {})
            key = (resource, metadata.get("namespace", ""), metadata["name"])
            before = self.objects.get(key)
            metadata["uid"] = before["metadata"]["uid"] if before else str(uuid4())
            found["apiVersion"], found["kind"] = KINDS[resource]
            return self._save(key, found, "MODIFIED" if before else "ADDED")

    def remove(self, resource: str, name: str, namespace: str = "") -> None:
        """Delete an object at once."""
        with self.changed:
            key = (resource, namespace, name)
            found = self.objects[key]
            self._save(key, found, "DELETED")
            del self.objects[key]
            self.owners.pop(key, None)

    def own(self, key: Key, manager: str, path: str, value: Any) -> None:
        """Have `manager` be the one who set this field."""
        with self.changed:
            self.owners.setdefault(key, {})[path] = (manager, value)

    def forget(self) -> None:
        """Compact: who watches from an older version is told that it is gone."""
        with self.changed:
            self.compacted = self.version
            self.events.clear()
            self.version += 1
            self.changed.notify_all()

    def _save(self, key: Key, item: Object, event: str) -> Object:
        self.version += 1
        item = copy.deepcopy(item)
        item["metadata"]["resourceVersion"] = str(self.version)
        before = self.objects.get(key)
        if before is None or before.get("spec") != item.get("spec"):
            item["metadata"]["generation"] = item["metadata"].get("generation", 0) + 1
        self.objects[key] = item
        self.events.append((self.version, event, key[0], item))
        self.changed.notify_all()
        return item

    def apply(self, key: Key, wanted: Object, manager: str) -> tuple[Object, bool]:
        """Server-side apply without force: the object, and whether it was made. Raises Conflict."""
        with self.changed:
            fields = dict(leaves(wanted))
            owned = self.owners.setdefault(key, {})
            conflicts = [
                (path, owned[path][0])
                for path, value in fields.items()
                if path in owned and owned[path][0] != manager and owned[path][1] != value
            ]
            if conflicts:
                raise Conflict(conflicts)
            before = self.objects.get(key)
            dropped = [path for path, (owner, _) in owned.items() if owner == manager and path not in fields]
            owned.update({path: (manager, value) for path, value in fields.items()})
            found = copy.deepcopy(before) if before else {"metadata": {"uid": str(uuid4())}}
            for path in dropped:
                del owned[path]
                drop(found, path)
            merge(found, wanted)
            if before is not None and found == before:
                return before, False
            return self._save(key, found, "MODIFIED" if before else "ADDED"), before is None

    def mark_deleted(self, key: Key) -> None:
        """As a deletion in the foreground begins: the object stays until its pods are gone."""
        with self.changed:
            found = copy.deepcopy(self.objects[key])
            found["metadata"].setdefault("deletionTimestamp", "2026-01-01T00:00:00Z")
            self._save(key, found, "MODIFIED")


class Conflict(Exception):
    """Fields that others set to something else: each with its path and manager."""

    def __init__(self, conflicts: list[tuple[str, str]]) -> None:
        super().__init__(conflicts)
        self.conflicts = conflicts


def leaves(item: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of an object with their paths, as managedFields and conflicts name them."""
    if isinstance(item, dict):
        for key, value in item.items():
            yield from leaves(value, f"{path}.{key}")
    elif isinstance(item, list) and item and all(isinstance(each, dict) and "name" in each for each in item):
        for each in item:
            yield from leaves(each, f'{path}[name="{each["name"]}"]')
    else:
        yield path, item


def merge(into: Object, wanted: Object) -> None:
    """Put the fields of `wanted` into an object."""
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)


def drop(item: Object, path: str) -> None:
    """Take a field out of an object, and what is empty without it. Lists are set as a whole, anyway."""
    if "[" in path:
        return
    name = path.removeprefix(".")
    first, _, rest = (name, "", "") if name in item else name.partition(".")  # labels have dots, too
    if rest and isinstance(item.get(first), dict):
        drop(item[first], rest)
        if item[first]:
            return
    item.pop(first, None)
