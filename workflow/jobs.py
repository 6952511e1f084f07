"""Former name of `workflow.background_jobs`.

Jobs that an earlier release put into Redis name it.
"""

from workflow.background_jobs import run

__all__ = ["run"]
