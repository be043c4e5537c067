"""Jobs in a queue of Kueue: their Workloads, and what the operator writes to them.

It knows neither updates nor generations.
"""
