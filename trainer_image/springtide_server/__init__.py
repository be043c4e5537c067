"""The reference server: Open Inference Protocol v2 for models that the trainer made."""
