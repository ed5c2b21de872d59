"""What CHECK looks at where all of an endpoint that is ours is inside the pod."""

from node_worker.attachments import Attachment
from node_worker.checking import Found
from node_worker.netlink import veth
from node_worker.netlink.namespace import Netns


def inside_alone(attachment: Attachment, pod: Netns) -> Found:
    """The pod's interface as it is; of the node's side, that it is as it was made."""
    inner, addresses, routes = veth.look_inside(pod, attachment.ifname)
    return Found(
        mac=inner.mac if inner is not None else None,
        up=inner is not None and inner.up,
        addresses=tuple(addresses),
        routes=tuple(routes),
        host_link=True,
        host_up=True,
        bridge=attachment.bridge,
    )
