"""Former name of `workflow.background_jobs`, for jobs that an earlier release put into Redis."""

from workflow.background_jobs import run

__all__ = ["run"]
