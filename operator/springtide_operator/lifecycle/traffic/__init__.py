"""What a route sends to pods beside those of a target, and how it is taken back before they go."""
