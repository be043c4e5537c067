"""The operator: observes, decides and acts on every `IncrementalUpdate`."""
