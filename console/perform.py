"""Commands on tickets, as pages, API and command line carry them out.

Here the handlers of all layers come together: those of the desk, of corrections and mail, and those
that read deliveries again.
"""

from ingest.replay import duplicates
from workflow.accounts import departures
from workflow.accounts.departures import Workload
from workflow.context import AppContext
from workflow.filing import corrections
from workflow.mail import answer, recap
from workflow.models.core import Staff
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


def hand_over(context: AppContext, number: int, to: int, *, by: str) -> tuple[str, str, Workload]:
    """Give what a person has to a colleague; return the names of both, and what it was.

    Raises ActionNotAllowed where there is no such person, or the colleague cannot have it.
    """
    with context.store.transaction() as session:
        person, colleague = session.get(Staff, number), session.get(Staff, to)
        work = departures.hand_over(
            session, context.desk, person, colleague, by=by, now=context.clock()
        )
        assert person is not None  # or it was not allowed
        assert colleague is not None
        return person.name, colleague.name, work
