"""Whether the process in this container is well: `python3 -m compose.health_probe [/readyz]`.

For a HEALTHCHECK: images have no curl, and `moorage` itself would need half a second for each look.
"""

import http.client
import os
import sys

from compose.listen_address import split_address

_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  what is asked there is asked here
_WITHIN_S = 3.0


def main(path: str = "/healthz") -> int:
    """0 if what listens at MOORAGE_MONITORING answers 200, else 1 and what it says."""
    address = os.environ.get("MOORAGE_MONITORING", "")
    try:
        host, port = split_address(address)
        asked = http.client.HTTPConnection(_EVERY_ADDRESS.get(host, host), port, timeout=_WITHIN_S)
        asked.request("GET", path)
        answer = asked.getresponse()
        said = answer.read().decode(errors="replace").strip()
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"nothing answers at MOORAGE_MONITORING {address!r}: {error}")
        return 1
    print(said)
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
