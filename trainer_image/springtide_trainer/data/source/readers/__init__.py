"""Readers of the formats: each yields the rows of one file in batches.

pyarrow reads what it and the row-by-row reader certainly read alike. The row-by-row reader defines
what a file contains: it reads the rest, and names the line of a row that is refused.
"""
