"""The scheduler: fires jobs."""
