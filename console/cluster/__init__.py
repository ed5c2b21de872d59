"""From a chosen pool to a running workload: manifests, the Kubernetes API, nodes that it says are off."""
