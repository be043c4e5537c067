"""Adoption of existing generations, deletion of the update, and garbage collection."""
