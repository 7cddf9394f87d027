"""The service, the monitor and the scheduled jobs on Cloud Run."""
