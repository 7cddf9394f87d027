"""The sample generator: a labelled corpus of invented papers."""
