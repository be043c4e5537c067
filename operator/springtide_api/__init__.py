"""The API of Springtide: both kinds, public names, and the contract of operator and trainer.

CRDs and reference pages are generated from this package. It imports no other package of Springtide.
"""
