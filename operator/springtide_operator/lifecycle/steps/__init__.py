"""The steps of a canary: its pods, its weight, and when the next step starts."""
