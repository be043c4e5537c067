"""Experiment trackers: curves and scores of a run for people, beside the result.

Nothing here fails a run, changes its weights or waits for a server while it trains. `report` is
what stages use; each tracker has a module, which alone imports its package.
"""
