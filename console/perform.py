"""Commands on tickets, as pages, API and command line carry them out.

Here the handlers of all layers come together: those of the desk, of corrections and mail, and those
that read deliveries again.
"""

from ingest.replay import duplicates
from workflow.context import AppContext
from workflow.filing import corrections
from workflow.mail import answer, recap
from workflow.tickets import actions
from workflow.tickets.actions import Actions


def get_actions(context: AppContext) -> Actions:
    """Return what carries out commands on the tickets of this database."""
    handlers = {
        **actions.HANDLERS,
        **corrections.HANDLERS,
        **answer.HANDLERS,
        **recap.HANDLERS,
        **duplicates.build_handlers(context),
    }
    return Actions(context.store, context.desk, handlers)
