"""A bundle and papers to raw scores: linear, encoder and cascade.

Needs numpy; one optional C kernel, and onnxruntime for encoders.
"""

from classmark.kernels.opening import check_text_recipe, kernel_of, make_scorer
from classmark.kernels.scorer import RawScores, Scorer, count_terms

__all__ = ["RawScores", "Scorer", "check_text_recipe", "count_terms", "kernel_of", "make_scorer"]
