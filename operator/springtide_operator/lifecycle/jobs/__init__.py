"""One stage's Job: attempts, results, retries, waiting pods and running time."""
