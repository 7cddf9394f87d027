"""``classmark retrain``."""
