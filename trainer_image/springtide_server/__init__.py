"""The reference server: Open Inference Protocol v2 for the trainer's artifacts."""
