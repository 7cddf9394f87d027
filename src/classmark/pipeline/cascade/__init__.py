"""The cascade: a linear model first, a transformer where it is unsure."""

from classmark.pipeline.cascade.export import make_candidate
from classmark.pipeline.cascade.fit import train

__all__ = ["make_candidate", "train"]
