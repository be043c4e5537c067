"""Tasks of language models: what a decoder learns, and what it generates."""
