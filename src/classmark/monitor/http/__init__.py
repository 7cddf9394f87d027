"""The monitor as a process of its own: looks on a schedule and on request, over HTTP."""
