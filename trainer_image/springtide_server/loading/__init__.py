"""From MODEL_URI to a model in memory: directly, or through a folder that a node's pods share."""
