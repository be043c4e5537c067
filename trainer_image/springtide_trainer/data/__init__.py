"""Training data: the source, the windows that are cut from it, and their frozen rows."""
