"""Fixtures of the deep tier's tests."""

from deep_fits import corpus, deep_run

from deep_models import tiny_encoder

__all__ = ["corpus", "deep_run", "tiny_encoder"]
