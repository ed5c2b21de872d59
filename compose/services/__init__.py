"""A RabbitMQ and a MariaDB of our own, child processes in a state folder: for `moorage up`, demo, tests."""
