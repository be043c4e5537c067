"""Watches a promoted generation until its bake ends, or rolls it back."""
