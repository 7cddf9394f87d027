"""From a checked request to a published answer; knows nothing of HTTP."""
