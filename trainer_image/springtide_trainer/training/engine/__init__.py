"""What a fast step needs of its device: checks without waiting, kernels, batches made ahead."""
