"""The container runtime interface (CRI) as a kubelet speaks it, over gRPC, with messages as plain dicts."""

from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_tools import protoc

_HERE = Path(__file__).parent
_LIMIT_S = 60


def messages_of(proto: str, folder: Path) -> descriptor_pool.DescriptorPool:
    """The messages and services that a .proto file beside this one describes. `folder` is for scratch."""
    described = folder / f"{proto}.set"
    assert protoc.main(["protoc", f"-I{_HERE}", f"--descriptor_set_out={described}", proto]) == 0
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(described.read_bytes()).file:
        pool.Add(file)
    return pool


class Cri:
    """One runtime's CRI. Every call raises `grpc.RpcError` where the runtime says no, or after a minute."""

    def __init__(self, socket: Path, folder: Path) -> None:
        self._pool = messages_of("cri.proto", folder)
        options = {
            "grpc.default_authority": "localhost",  # containerd refuses a socket's path
            "grpc.initial_reconnect_backoff_ms": 100,
            "grpc.max_reconnect_backoff_ms": 200,
        }
        self._channel = grpc.insecure_channel(f"unix:{socket}", list(options.items()))

    def close(self) -> None:
        """Let go of the connection."""
        self._channel.close()

    def run(self, config: dict[str, Any]) -> str:
        """RunPodSandbox: the sandbox's id."""
        return str(self._call("RunPodSandbox", config=config)["pod_sandbox_id"])

    def stop(self, sandbox: str) -> None:
        """StopPodSandbox."""
        self._call("StopPodSandbox", pod_sandbox_id=sandbox)

    def remove(self, sandbox: str) -> None:
        """RemovePodSandbox."""
        self._call("RemovePodSandbox", pod_sandbox_id=sandbox)

    def status(self, sandbox: str) -> dict[str, Any]:
        """PodSandboxStatus with all its details."""
        return self._call("PodSandboxStatus", pod_sandbox_id=sandbox, verbose=True)

    def sandboxes(self, limit_s: float = _LIMIT_S) -> list[str]:
        """The ids of all sandboxes, stopped ones too."""
        return [item["id"] for item in self._call("ListPodSandbox", limit_s=limit_s)["items"]]

    def has_image(self, image: str) -> bool:
        """Whether the runtime knows the image."""
        return "image" in self._call("ImageStatus", "ImageService", image={"image": image})

    def _call(
        self, method: str, service: str = "RuntimeService", limit_s: float = _LIMIT_S, **fields: Any
    ) -> dict[str, Any]:
        described = self._pool.FindServiceByName(f"runtime.v1.{service}").FindMethodByName(method)
        asked, answered = (
            message_factory.GetMessageClass(kind) for kind in (described.input_type, described.output_type)
        )
        call = self._channel.unary_unary(
            f"/runtime.v1.{service}/{method}", asked.SerializeToString, answered.FromString
        )
        answer = call(json_format.ParseDict(fields, asked()), timeout=limit_s, wait_for_ready=True)
        return json_format.MessageToDict(
            answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
