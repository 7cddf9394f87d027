"""Holds the folder ``index``, which ``classmark.Index.open("arxiv")`` finds; no code."""
