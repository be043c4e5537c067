"""The only part that speaks to Kubernetes: client, cache, observation, action."""
