"""Decides the rules of a gate by confidence bounds: one code for the operator and the trainer.

No I/O. The verdict over all rules and the check for a suspect holdout are in the operator.
"""
