"""Runs a recipe without a cluster, by the stages of the pods and the verdict of the operator."""
