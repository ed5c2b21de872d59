"""A second opinion on the allocator: what it promises, written down again without a line of it."""
