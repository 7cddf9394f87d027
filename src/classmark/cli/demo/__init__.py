"""``classmark demo``."""
