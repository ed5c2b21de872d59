"""One file per driver, each with the verbs ensure, remove and attach."""
