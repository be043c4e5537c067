"""The cache and the watches that keep it up to date."""
