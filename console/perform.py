"""Commands on tickets, as pages, API and command line carry them out.

Here the handlers of all layers come together: those of the desk, of corrections and mail, and those
that read deliveries again.
"""

from ingest.replay import duplicates
from workflow.accounts import departures
from workflow.accounts.departures import Workload
from workflow.context import AppContext
from workflow.customers import merging
from workflow.errors import ActionNotAllowed
from workflow.filing import corrections
from workflow.mail import answer, recap
from workflow.models.core import Company, Contact, Staff
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


def merge_customers(
    context: AppContext, kind: str, number: int, into: int | None, *, by: str
) -> str:
    """Merge a company or contact (`kind`) into another one; return in words what was done.

    Raises ActionNotAllowed where there is none of the two, or they cannot be merged.
    """
    with context.store.transaction() as session:
        if kind == merging.COMPANY:
            company, other_company = session.get(Company, number), session.get(Company, into or 0)
            if company is None or other_company is None:
                raise ActionNotAllowed("choose a company to merge it into")
            now = context.clock()
            merging.merge_companies(session, company, other_company, by=by, now=now)
            return f"{company.name} is merged into {other_company.name}"
        contact, other = session.get(Contact, number), session.get(Contact, into or 0)
        if contact is None or other is None:
            raise ActionNotAllowed("choose a contact to merge it into")
        merging.merge_contacts(session, contact, other, by=by, now=context.clock())
        return f"{contact.email} is merged into {other.email}"


def unmerge_customers(context: AppContext, kind: str, number: int, *, by: str) -> str:
    """Undo the merge of a company or contact (`kind`); return in words what was done.

    Raises ActionNotAllowed where there is none, or it is not merged.
    """
    with context.store.transaction() as session:
        if kind == merging.COMPANY:
            company = session.get(Company, number)
            if company is None:
                raise ActionNotAllowed("there is no such company")
            holder = merging.unmerge_company(session, company, by=by, now=context.clock())
            return f"{company.name} is separate from {holder.name} again"
        contact = session.get(Contact, number)
        if contact is None:
            raise ActionNotAllowed("there is no such contact")
        other = merging.unmerge_contact(session, contact, by=by, now=context.clock())
        return f"{contact.email} is separate from {other.email} again"


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
