"""Fixtures of the monitor: a model that is watched, and journals."""

from watched_journals import keep, watched_model

__all__ = ["keep", "watched_model"]
