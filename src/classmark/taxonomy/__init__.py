"""The arXiv categories as data: codes, names, archives, groups, aliases, active or retired.

A *category* (``cs.LG``) belongs to an *archive* (``cs``), an archive to one of eight *groups*
(``grp_cs``, coded as arXiv does so that the archive ``physics`` and the group ``grp_physics`` are
never confused). Archives without subdivisions (``hep-th``) are their own single category.
"""

from classmark.taxonomy.table import (
    VERSION,
    archive_name,
    canonical,
    categories,
    get,
    group,
    group_name,
    is_active,
    name,
    parent,
)

__all__ = [
    "VERSION",
    "archive_name",
    "canonical",
    "categories",
    "get",
    "group",
    "group_name",
    "is_active",
    "name",
    "parent",
]
