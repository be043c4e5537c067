"""The verdict from measured numbers: one code for the operator and the trainer.

No I/O. What follows from a verdict, such as a rollout, is decided elsewhere.
"""
