"""From an address or a path to checked files that a build reads."""
