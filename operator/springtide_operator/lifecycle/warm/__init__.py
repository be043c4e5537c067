"""Pods of the previous generation, kept during a bake for a rollback by one write."""
