"""What is in a dataset, in numbers, and how two datasets differ."""
