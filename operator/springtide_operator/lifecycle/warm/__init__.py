"""Pods of the previous generation beside live in a bake: for its rollback, and to compare it."""
