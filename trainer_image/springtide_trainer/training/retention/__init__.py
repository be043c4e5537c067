"""What keeps a candidate near the model that it continues from: its outputs, or its weights."""
