"""What is known about one update, and what a decision may ask for."""
