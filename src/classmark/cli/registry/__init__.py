"""``classmark registry``: models by digest, who serves, and how that came about."""
