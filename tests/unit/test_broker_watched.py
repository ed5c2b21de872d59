"""What is told of a consumer that stops and goes on."""

from prometheus_client import CollectorRegistry

from broker.metrics import Served

QUEUE = {"queue": "moorage.queries"}


def told(registry: CollectorRegistry) -> tuple[float | None, float | None]:
    """How many consumers of the queue are subscribed, and the age of its oldest message."""
    return (
        registry.get_sample_value("moorage_queue_consuming", QUEUE),
        registry.get_sample_value("moorage_queue_oldest_seconds", QUEUE),
    )


def test_what_a_consumer_left_unsettled_ages_until_it_subscribes_again():
    registry = CollectorRegistry()
    watched = Served(registry, now=lambda: 100.0).consumer("moorage.queries")
    assert told(registry) == (0, 0)
    watched.opened()
    watched.oldest = 70.0
    assert told(registry) == (1, 30)
    watched.closed("the database is away")
    assert told(registry) == (0, 30)
    watched.opened()
    assert told(registry) == (1, 0), "whoever is the active consumer has it now"


def test_of_several_consumers_of_a_queue_the_oldest_message_of_all_counts():
    registry = CollectorRegistry()
    served = Served(registry, now=lambda: 100.0)
    for sent in (None, 40.0, 90.0):
        watched = served.consumer("moorage.queries")
        watched.opened()
        watched.oldest = sent
    assert told(registry) == (3, 60)


def test_a_message_from_the_future_has_no_age():
    registry = CollectorRegistry()
    watched = Served(registry, now=lambda: 100.0).consumer("moorage.queries")
    watched.oldest = 500.0
    assert told(registry) == (0, 0)
