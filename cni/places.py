"""Where the CNI plugin is on a node: what a runtime looks for, and where the node worker listens."""

from dataclasses import dataclass
from pathlib import Path

DEFAULT_SOCKET = Path("/run/moorage/cni.sock")
"""Where the executable calls the node worker unless its environment names another socket."""

TYPE = "moorage"
"""Our plugin's type in configurations, and so the executable's name (SPEC, section 1)."""


@dataclass(frozen=True)
class Places:
    """Where a runtime looks for executables and configurations, and where the node worker listens."""

    bin_dir: Path
    conf_dir: Path
    socket: Path

    @property
    def shim(self) -> Path:
        """The executable."""
        return self.bin_dir / TYPE

    @property
    def conflist(self) -> Path:
        """The configuration list."""
        return self.conf_dir / "10-moorage.conflist"
