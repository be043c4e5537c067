"""A canary: a few pods serve the candidate beside the live generation, step by step."""
