"""Clusters of RabbitMQ and of MariaDB that lose a member while pods ask: `make cluster`."""
