"""Training jobs on Google Cloud: what is asked for, who runs it, its log, its run folder."""
