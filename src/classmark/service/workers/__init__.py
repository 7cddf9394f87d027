"""The process tree: a supervisor and its workers, each with an event loop."""
