"""A training on several nodes: its JobSet may be missing, and it has several pods at one time."""
