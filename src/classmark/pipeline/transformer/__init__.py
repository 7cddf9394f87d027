"""The transformer: a fine-tuned encoder; its fits can be resumed."""

from classmark.pipeline.transformer.export import make_candidate
from classmark.pipeline.transformer.fit import train

__all__ = ["make_candidate", "train"]
