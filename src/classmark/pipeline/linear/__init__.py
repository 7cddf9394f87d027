"""The linear model: hashed words and word pairs, fitted on any CPU."""

from classmark.pipeline.linear.export import make_candidate
from classmark.pipeline.linear.fit import train

__all__ = ["make_candidate", "train"]
