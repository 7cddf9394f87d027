"""``classmark evaluate``: how good a model is, from its stored scores; two models compared."""
