"""``classmark dataset``: download papers, build a dataset, invent a sample, count what is in it."""
