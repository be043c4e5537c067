"""From an accepted generation to live targets, or back."""
