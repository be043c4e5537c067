"""The contract of Springtide: both kinds, every public string, and what operator and trainer say.

Everything else is generated from here or imports from here; this package knows nobody.
"""
