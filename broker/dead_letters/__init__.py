"""Dead letters: how they are made, looked at, replayed, discarded and carried elsewhere."""
