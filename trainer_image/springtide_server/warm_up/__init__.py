"""Warm-up: queries of real rows are answered before a pod gets requests.

The reference server sends them to itself. In a pod of another server a sidecar container does so
and is ready afterwards, and with it the pod.
"""
