"""From papers to a dataset folder: clean, split, write, check, account."""
