"""Verbs for those who run the service: ``serve``, ``keys`` and ``journal``."""
