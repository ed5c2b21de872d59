"""A list of plugins run as a runtime runs it: adding in order, checking in order, deleting in reverse.

Source: SPEC, section 3 ("Adding an attachment", "Deleting an attachment", "Checking an attachment" and
"Deriving request configuration from plugin configuration").
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Conf = dict[str, Any]
TIMEOUT_S = 30


class PluginError(Exception):
    """A plugin failed; `verb`, `plugin` and the error object that it printed."""

    def __init__(self, verb: str, plugin: str, printed: str, logged: str) -> None:
        super().__init__(f"{verb} of {plugin}: {printed or logged}")
        self.verb, self.plugin = verb, plugin
        self.error: Conf = json.loads(printed) if printed else {}


@dataclass(frozen=True)
class Attachment:
    """What the runtime says of one interface of a container. `netns` is a path."""

    container_id: str
    netns: str
    ifname: str = "eth0"
    args: str = ""

    @property
    def variables(self) -> dict[str, str]:
        """As the CNI_ variables."""
        return {
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": self.ifname,
            "CNI_ARGS": self.args,
        }


class Chain:
    """A network configuration, where its plugins lie, and the results of what was added."""

    def __init__(
        self,
        conflist: Mapping[str, Any],
        folders: Sequence[Path],
        *,
        host: Path,
        environment: Mapping[str, str],
        capabilities: Mapping[str, Any] | None = None,
    ) -> None:
        """Run in the network namespace `host`; `capabilities` are the runtime's arguments by capability."""
        self._conflist = conflist
        self._folders = folders
        self._host = host
        self._environment = environment
        self._capabilities = capabilities or {}
        self.results: dict[tuple[str, str], Conf] = {}
        """The last plugin's result, by container id and interface."""

    def add(self, attachment: Attachment) -> Conf:
        """The last plugin's result. Raises `PluginError`; `delete` undoes what came before it."""
        previous: Conf | None = None
        for plugin in self._conflist["plugins"]:
            previous = self._run("ADD", attachment, plugin, previous)
        assert previous is not None
        self.results[attachment.container_id, attachment.ifname] = previous
        return previous

    def check(self, attachment: Attachment) -> None:
        """Raise the `PluginError` of the first plugin that finds something wrong."""
        for plugin in self._conflist["plugins"]:
            self._run("CHECK", attachment, plugin, self._result(attachment))

    def delete(self, attachment: Attachment) -> None:
        """Raises the `PluginError` of the first plugin that fails, in reverse order."""
        for plugin in reversed(self._conflist["plugins"]):
            self._run("DEL", attachment, plugin, self._result(attachment))
        self.results.pop((attachment.container_id, attachment.ifname), None)

    def _result(self, attachment: Attachment) -> Conf | None:
        return self.results.get((attachment.container_id, attachment.ifname))

    def _run(self, verb: str, attachment: Attachment, plugin: Conf, previous: Conf | None) -> Conf | None:
        kind = plugin["type"]
        program = next(folder / kind for folder in self._folders if (folder / kind).exists())
        variables = attachment.variables | {
            "CNI_COMMAND": verb,
            "CNI_PATH": ":".join(map(str, self._folders)),
            "PATH": os.environ["PATH"],
        }
        done = subprocess.run(
            ["nsenter", f"--net={self._host}", program],
            env={**variables, **self._environment},
            input=json.dumps(self._derived(plugin, previous)),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise PluginError(verb, kind, done.stdout, done.stderr)
        return json.loads(done.stdout) if verb == "ADD" else None

    def _derived(self, plugin: Conf, previous: Conf | None) -> Conf:
        """The plugin's configuration as it is passed: without `capabilities`, with what the list says."""
        derived = {key: value for key, value in plugin.items() if key != "capabilities"}
        derived |= {"cniVersion": self._conflist["cniVersion"], "name": self._conflist["name"]}
        named = plugin.get("capabilities", {})
        asked = {key: value for key, value in self._capabilities.items() if named.get(key)}
        if asked:
            derived["runtimeConfig"] = asked
        if previous is not None:
            derived["prevResult"] = previous
        return derived
