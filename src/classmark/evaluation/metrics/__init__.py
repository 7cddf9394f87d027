"""From a score table to numbers and their intervals."""
