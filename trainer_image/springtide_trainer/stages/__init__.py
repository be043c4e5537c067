"""The stages of a generation, one pod each: import, probe, train, evaluate, collect."""
