"""docs/kubernetes.md: servers that nobody has set up, and the administrator's URL in a file."""

from compose.services.local import local_services
from tests.docs.preparing import NODES, before
from tests.docs.stage import Stage

NODES["docs/kubernetes.md"] = 0


@before("docs/kubernetes.md", "users")
def _an_administrator_of_new_servers(stage: Stage) -> None:
    servers = stage.undo.enter_context(local_services(stage.folder / "up"))
    url = stage.shell.folder / "management-url"
    url.touch(mode=0o600)
    url.write_text(servers.management_url)
