"""Model artifacts: weights, tokenizer and preprocessing, addressed by digest."""
