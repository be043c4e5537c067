"""Stages of a generation: import, probe, train, evaluate, collect; one pod each."""
