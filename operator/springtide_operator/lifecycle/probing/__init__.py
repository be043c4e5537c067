"""From a due probe to a new run or a longer holdout."""
