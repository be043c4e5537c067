"""Reads the source: files, formats, column values, and the rows of the stream."""
