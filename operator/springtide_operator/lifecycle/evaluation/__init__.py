"""From weights to a verdict: interim analyses, gate, holds."""
