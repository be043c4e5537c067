"""Training data: the source, its windows, and their frozen rows."""
