"""Initial models from a Hugging Face hub or a mirror of one."""
