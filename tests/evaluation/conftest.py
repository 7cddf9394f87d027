from __future__ import annotations

from score_tables import make_table, random_table

__all__ = ["make_table", "random_table"]
