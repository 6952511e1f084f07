"""Modules that every process needs; the fork server imports this once, and its forks share them."""

import gc

from sqlalchemy.orm import configure_mappers

import console.runtime.http_server
import console.runtime.processes
import ingest.folder.watcher
import ingest.intake
import webhooks.app
import workflow.jobs
import workflow.operations.sweep
from console.runtime.parent_death import end_with_parent

# Of what only some processes need, too: forks share it, and pay only for what they write to.
SHARED = (
    console.runtime.http_server,
    console.runtime.processes,
    ingest.folder.watcher,
    ingest.intake,
    webhooks.app,
    workflow.jobs,
    workflow.operations.sweep,
)

end_with_parent()  # the fork server would outlive a killed supervisor as long as it has forks
configure_mappers()  # else each process would do it at its first query
# The collector would write into the pages of these objects, and so copy them for each process.
gc.collect()
gc.freeze()
