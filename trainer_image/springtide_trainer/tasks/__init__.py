"""What is learnt: labels, loss, predictions, metrics and served tensors of each task."""
