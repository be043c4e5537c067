"""Which parameters are trained, and how the trained model is written."""
