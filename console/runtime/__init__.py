"""Processes: web servers, workers, and the supervisor of `intake up`."""
