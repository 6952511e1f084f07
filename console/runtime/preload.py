"""Modules that every process needs; the fork server imports this once, and its forks share them."""

import gc

from sqlalchemy.orm import configure_mappers

import console.runtime.processes
import ingest.intake
import workflow.jobs
from console.runtime.parent_death import end_with_parent

SHARED = (console.runtime.processes, ingest.intake, workflow.jobs)

end_with_parent()  # the fork server would outlive a killed supervisor as long as it has forks
configure_mappers()  # else each process would do it at its first query
# The collector would write into the pages of these objects, and so copy them for each process.
gc.collect()
gc.freeze()
