"""The verb ``profile``: a command, or a service under load, under a profiler."""
