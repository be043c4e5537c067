"""What we apply to the cluster, as plain dictionaries, from the plan's actions; pure."""
