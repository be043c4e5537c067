"""Metrics of live traffic: what is queried now, what is recorded, and what it shows."""
