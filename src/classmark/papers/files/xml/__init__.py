"""XML of papers: documents are split into records, and records are read as papers."""
