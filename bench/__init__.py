"""What must hold beside correctness, measured on real servers: `make bench`."""
