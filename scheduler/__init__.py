"""The scheduler: fires jobs (comes with the scheduler issue)."""
