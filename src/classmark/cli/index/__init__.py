"""Verbs about an index of papers: ``index`` builds it, ``similar`` asks it."""
