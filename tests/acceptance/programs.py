"""What runs in the containers of tests: static C programs, and an image of one of them."""

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # as Go names them
_SOURCES = {
    "sleeper": """
        #include <signal.h>
        #include <stdlib.h>
        #include <unistd.h>
        static void end(int signal) { (void)signal; _exit(0); }
        int main(void) { signal(SIGTERM, end); signal(SIGINT, end); for (;;) pause(); }
    """,
    # Whoever connects to the port that is its argument is told so.
    "listener": """
        #include <netinet/in.h>
        #include <stdlib.h>
        #include <unistd.h>
        int main(int argc, char **argv) {
            struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 0)};
            int one = 1, server = socket(AF_INET, SOCK_STREAM, 0);
            setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
            if (bind(server, (struct sockaddr *)&any, sizeof any) || listen(server, 8)) return 1;
            for (;;) {
                int client = accept(server, 0, 0);
                if (client < 0 || write(client, "connected", 9) != 9) return 1;
                close(client);
            }
        }
    """,
}


def compile_program(name: str, folder: Path) -> Path:
    """One of the programs, built static into `folder`."""
    target = folder / name
    flags = ["-std=gnu11", "-static", "-Os", "-Wall", "-Wextra", "-Werror", "-x", "c", "-"]
    subprocess.run(["cc", "-o", target, *flags], input=_SOURCES[name], text=True, check=True)
    return target


def image_of(program: Path, tag: str) -> Path:
    """An image, as `docker save` would write it, that holds and runs one static program."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        _put(tar, program.name, program.read_bytes(), mode=0o755)
    config = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]
    image = program.with_suffix(".tar")
    with tarfile.open(image, mode="w") as tar:
        _put(tar, "layer.tar", layer.getvalue())
        _put(tar, "config.json", json.dumps(config).encode())
        _put(tar, "manifest.json", json.dumps(manifest).encode())
    return image


def _put(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))
