"""Who may ask what: the check of the sender that the broker's permissions cannot make."""

from broker.outcome import Delivery
from schemas.errors import Code, ServiceError
from schemas.requests import MAY_SEND, sender


def authorize(delivery: Delivery) -> None:
    """Raise `sender_forbidden` unless this user may send this request, a node for itself alone."""
    known = sender(delivery.user_id)
    request = delivery.request
    if known is None:
        raise ServiceError(
            Code.SENDER_FORBIDDEN,
            f"user {delivery.user_id} has no role; enroll it with "
            "`moorage client enroll NAME --role producer` or `moorage node enroll NAME`",
            user=delivery.user_id,
        )
    role, name = known
    if request.NAME not in MAY_SEND[role]:
        raise ServiceError(
            Code.SENDER_FORBIDDEN,
            f"user {delivery.user_id} may not send {request.NAME}: a {role} may send "
            f"{', '.join(sorted(MAY_SEND[role]))}",
            user=delivery.user_id,
            request=request.NAME,
        )
    if role == "node" and getattr(request, "node", name) != name:
        raise ServiceError(
            Code.SENDER_FORBIDDEN,
            f"user {delivery.user_id} may not send {request.NAME} for another node",
            user=delivery.user_id,
            request=request.NAME,
        )
