"""The HTTPRoute of a canary: what is observed of it, its problems and its weights.

It knows neither updates nor generations.
"""
