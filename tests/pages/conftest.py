from __future__ import annotations

from dataset_records import write_source
from score_tables import make_table, random_table

__all__ = ["make_table", "random_table", "write_source"]
