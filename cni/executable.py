"""The CNI executable as a program on this machine: whose it is, whether it runs, what it answers."""

import errno
import json
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

from cni import wire
from schemas.errors import Code, ServiceError

_ELF = b"\x7fELF"
_MARK = b"MOORAGE_CNI_SOCKET"
_SOCKET_S = 2.0
_LIMIT_S = 10  # the shim ends by itself before that: shim.c, `limits`


def is_shim(content: bytes) -> bool:
    """Whether this is a build of shim.c, for whatever machine. Told without running what may be foreign."""
    return content.startswith(_ELF) and _MARK in content


def versions_of(program: Path) -> tuple[str, ...]:
    """The CNI versions that `program` says it speaks. Raises ServiceError when it does not run here."""
    status, answer = _call(program, "VERSION", b'{"cniVersion": "1.1.0"}')
    versions = answer.get("supportedVersions")
    if status != 0 or not isinstance(versions, list):
        raise _unusable(program, f"does not answer VERSION (exit status {status})")
    return tuple(map(str, versions))


def why_not_ready(program: Path, plugin: dict[str, Any], socket_path: Path) -> str | None:
    """Ask the node worker behind that socket for its STATUS with this configuration; None if it is ready.

    Otherwise what it, or `program` in its place, says. Raises ServiceError when `program` does not run here.
    """
    asked = json.dumps(plugin | {"cniVersion": "1.1.0"}).encode()  # the first version with a STATUS
    status, answer = _call(program, "STATUS", asked, MOORAGE_CNI_SOCKET=str(socket_path))
    if status == 0:
        return None
    return str(answer.get("msg") or f"{program} ended with exit status {status} and no reason")


def why_unready(path: Path) -> str | None:
    """Ask the node worker itself for its STATUS, without an executable; None if it would serve ADD.

    It is asked for a network that there is not: that it knows so means that it has heard from the allocator.
    """
    plugin = {"cniVersion": "1.1.0", "name": "doctor", "type": "moorage", "network": "moorage-doctor"}
    call = wire.encode_call({"CNI_COMMAND": "STATUS"}, json.dumps(plugin).encode())
    try:
        with socket.socket(socket.AF_UNIX) as calling:
            calling.settimeout(_SOCKET_S)
            calling.connect(str(path))
            calling.sendall(call)
            with calling.makefile("rb") as stream:
                body = stream.read(wire.body_length(stream.read(wire.HEADER_BYTES)))
        status, stdout = wire.decode_answer(body)
        answer = json.loads(stdout) if status != 0 else {}
    except TimeoutError:
        return f"nobody answers at {path}"
    except OSError as error:
        return f"nobody listens at {path} ({_reason(error)})"
    except (ValueError, struct.error) as error:
        return f"what listens at {path} is no node worker ({error})"
    if status == 0 or answer.get("details") == Code.NETWORK_UNKNOWN:
        return None
    return str(answer.get("msg") or f"the node worker ended STATUS with {status} and no reason")


def _call(program: Path, verb: str, stdin: bytes, **env: str) -> tuple[int, dict[str, Any]]:
    try:
        done = subprocess.run(
            [program],
            env={"CNI_COMMAND": verb, "CNI_PATH": str(program.parent), **env},
            input=stdin,
            capture_output=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except OSError as error:
        raise _unusable(program, f"does not run ({_reason(error)})") from error
    except subprocess.TimeoutExpired as error:
        raise _unusable(program, f"gave no answer to {verb} within {_LIMIT_S} s") from error
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = None
    return done.returncode, answer if isinstance(answer, dict) else {}


def _reason(error: OSError) -> str:
    match error.errno:
        case errno.ENOEXEC:
            return "it is not made for this machine"
        case errno.EACCES:
            return "permission denied: is its file system mounted noexec?"
        case number:
            return errno.errorcode.get(number or 0, str(number))


def _unusable(program: Path, what: str) -> ServiceError:
    return ServiceError(
        Code.INVALID_REQUEST,
        f"{program} {what}: build it on a machine of this kind (make shim), and name it with --shim",
        path=str(program),
    )
