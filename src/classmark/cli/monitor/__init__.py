"""``classmark monitor``: drift of what a model is asked."""
