"""The `ModelGeneration`: its spec and its status, both written by the operator."""
