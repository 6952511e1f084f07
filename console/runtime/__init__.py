"""Processes: web servers, workers, the supervisor of `intake up`."""
