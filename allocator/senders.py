"""Who may ask what: the check of the sender that the broker's permissions cannot make."""

from broker.outcome import Delivery
from schemas.errors import Code, ServiceError
from schemas.requests import sender, why_not


def authorize(delivery: Delivery) -> None:
    """Raise `sender_forbidden` unless this user may send this request, a node for itself alone."""
    request = delivery.request
    forbidden = why_not(delivery.user_id, request.NAME)
    known = sender(delivery.user_id)
    if forbidden is not None or known is None:
        raise ServiceError(
            Code.SENDER_FORBIDDEN,
            forbidden or f"user {delivery.user_id} has no role",
            user=delivery.user_id,
            request=request.NAME,
        )
    role, name = known
    if role == "node" and getattr(request, "node", name) != name:
        raise ServiceError(
            Code.SENDER_FORBIDDEN,
            f"user {delivery.user_id} may not send {request.NAME} for another node",
            user=delivery.user_id,
            request=request.NAME,
        )
