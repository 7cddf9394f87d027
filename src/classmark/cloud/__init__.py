"""CLOUD: the same system on Google Cloud: training jobs, services, alert policies, costs."""
