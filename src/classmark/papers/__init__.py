"""PAPER IN: ids, dates, readers, and the only normaliser."""

from classmark.papers.columns import Columns, ReadOptions, parse_columns
from classmark.papers.dates import parse_date
from classmark.papers.files.chunks import Chunk, ChunkSize, papers_of, read_chunks
from classmark.papers.files.detect import FORMATS, KNOWN_SUFFIXES, detect_format
from classmark.papers.files.reader import read_papers, read_stream
from classmark.papers.ids import canonical_id, is_place
from classmark.papers.markup import without_markup
from classmark.papers.recipe import (
    RECIPE_VERSION,
    abstract_fingerprint,
    finish,
    normalise,
    spell,
    text_fingerprint,
)

__all__ = [
    "FORMATS",
    "KNOWN_SUFFIXES",
    "RECIPE_VERSION",
    "Chunk",
    "ChunkSize",
    "Columns",
    "ReadOptions",
    "abstract_fingerprint",
    "canonical_id",
    "detect_format",
    "finish",
    "is_place",
    "normalise",
    "papers_of",
    "parse_columns",
    "parse_date",
    "read_chunks",
    "read_papers",
    "read_stream",
    "spell",
    "text_fingerprint",
    "without_markup",
]
