"""One per node: makes networks exist there and wires pods."""
