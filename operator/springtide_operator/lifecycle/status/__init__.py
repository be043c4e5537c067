"""What users read: status, phases, conditions and Events, derived from the facts."""
