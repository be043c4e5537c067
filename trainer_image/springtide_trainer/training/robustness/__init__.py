"""Options against noise of the rows and chance of the last steps: `training.robustness`."""
