"""All AMQP and no business words."""
