"""From the initial model or a new window of data to the weights of a generation."""
