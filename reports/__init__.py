"""The project's report: its form, the checks behind its checklist, and the commands."""
