"""The world outside the API server."""
