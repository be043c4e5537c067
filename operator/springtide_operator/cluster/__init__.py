"""The only package that talks to Kubernetes: API client, watches, reads and writes."""
