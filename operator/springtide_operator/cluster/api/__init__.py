"""The API server: connection, client, errors, kinds, time, limits and the Lease."""
