"""Lists of tickets: parse their URL query, load a page, and build the URL again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from urllib.parse import urlencode

from sqlalchemy.orm import Session

from ingest.intake import Transport
from workflow import permissions
from workflow.customers import directory
from workflow.database.ids import parse_id
from workflow.models.core import Staff, Ticket
from workflow.permissions import Right
from workflow.process import STEPS
from workflow.tickets import search, views
from workflow.tickets.actions import Assign, find_status_refusal
from workflow.tickets.views import Count, Filters, Sort, TicketQuery, ViewPage

MAX_QUERY_LENGTH = 2000
MAX_WORDS_LENGTH = 200  # characters of what is searched for, or of a company's name
TRANSPORTS = tuple(str(t) for t in Transport)
STAGES = tuple(s.stage for s in STEPS)
SORT_LABELS = {Sort.OLDEST: "Oldest first", Sort.NEWEST: "Newest first", Sort.DUE: "Due first"}
COUNTED_VIEWS = ("unassigned", "mine", "overdue", "escalated")  # in the menu of views


@dataclass(frozen=True)
class TicketList:
    """A page of tickets with everything its template shows."""

    query: TicketQuery
    page: ViewPage
    count: Count
    snippets: dict[int, list[search.Piece]]

    @property
    def title(self) -> str:
        """Return the title of the list."""
        view = views.VIEWS[self.query.view]
        return (
            f"Search: {self.query.words}"
            if self.query.words and self.query.view == "all"
            else view.title
        )

    @property
    def has_filters(self) -> bool:
        """Return whether a filter narrows the list; words and order do not count."""
        return self.query.filters != Filters()

    @property
    def sort(self) -> Sort:
        """Return the order of the list: the one asked for, else the view's own."""
        return self.query.sort or views.VIEWS[self.query.view].sort

    @property
    def last(self) -> int:
        """Return the place of the page's last ticket in the list, from 1; 0 for an empty list."""
        return self.page.first + len(self.page.tickets) - 1

    @property
    def unfiltered_query_string(self) -> str:
        """Return the URL query string of the list without its filters and its order."""
        return build_query_string(TicketQuery(self.query.view, words=self.query.words))

    @cached_property
    def takeable_ids(self) -> frozenset[int]:
        """Return the ids of the tickets on the page that may be assigned in their status."""
        return frozenset(t.id for t in self.page.tickets if not find_status_refusal(t, Assign))

    @property
    def digest(self) -> str:
        """Return a digest that changes with the contents of the page."""
        visible_values = [(t.id, t.owner_id, t.stage, str(t.due_at)) for t in self.page.tickets]
        return sha256(repr((self.count.number, visible_values)).encode()).hexdigest()[:16]


def parse_query(args: Mapping[str, str], otherwise: str = "unassigned") -> TicketQuery:
    """Return the query of a URL; unknown values are ignored.

    `otherwise` is the view used when the URL names none.
    """
    view = args.get("view", "")
    owner, page = args.get("owner", ""), args.get("page", "")
    filters = Filters(
        company=args.get("company", "").strip()[:MAX_WORDS_LENGTH],
        channel=next((d for d in TRANSPORTS if d == args.get("door")), ""),
        owner=parse_id(owner),
        telemedicine=args.get("telemedicine") == "1",
        stage=next((s for s in STAGES if s == args.get("stage")), None),
    )
    return TicketQuery(
        view=view if view in views.VIEWS else otherwise,
        filters=filters,
        sort=next((s for s in Sort if s == args.get("sort")), None),
        words=args.get("q", "").strip()[:MAX_WORDS_LENGTH],
        page=parse_id(page) or 1,
    )


def describe_filters(query: TicketQuery, people: Iterable[Staff]) -> list[str]:
    """Return active filters and order in words, shown while the filter form is folded."""
    filters = query.filters
    descriptions = [filters.company, filters.channel, _describe_owner(filters.owner, people)]
    if filters.stage is not None:
        descriptions.append(filters.stage)
    if filters.telemedicine:
        descriptions.append("Telemedicine")
    if query.sort is not None and query.sort != views.VIEWS[query.view].sort:
        descriptions.append(SORT_LABELS[query.sort])
    return [text for text in descriptions if text]


def _describe_owner(owner: int | None, people: Iterable[Staff]) -> str:
    """Return the owner of a filter by name; "" without a filter, 0 stands for no owner."""
    if owner is None:
        return ""
    if owner == 0:
        return "Nobody"
    return next((person.name for person in people if person.id == owner), "somebody")


def build_query_string(query: TicketQuery, page: int = 1) -> str:
    """Return the shortest URL query string that parses to this query."""
    filters = query.filters
    args = {
        "view": query.view,
        "q": query.words,
        "company": filters.company,
        "door": filters.channel,
        "owner": "" if filters.owner is None else str(filters.owner),
        "telemedicine": "1" if filters.telemedicine else "",
        "stage": filters.stage or "",
        "sort": query.sort or "",
        "page": str(page) if page > 1 else "",
    }
    return urlencode({name: value for name, value in args.items() if value})


def load_list(session: Session, query: TicketQuery, *, actor: str, now: datetime) -> TicketList:
    """Load the page of the query, its count, and where each ticket contains the search words."""
    page = views.load_page(session, query, actor=actor, now=now)
    phrases = search.parse_phrases(query.words)
    snippets = (
        search.list_snippets(session, [t.id for t in page.tickets], phrases) if phrases else {}
    )
    return TicketList(query, page, _count_matches(session, query, page, actor, now), snippets)


def _count_matches(
    session: Session, query: TicketQuery, page: ViewPage, actor: str, now: datetime
) -> Count:
    """Return the number of matches; derived from the position when the list ends on this page."""
    count = page.first - 1 + len(page.tickets)
    if page.tickets and not page.further and query.page < views.MOST // views.PAGE:
        return Count(count)
    if query.words and search.has_too_many_hits(session, query.words):
        return Count(count, more=True)
    return views.count_tickets(session, query, actor=actor, now=now)


def list_assignable_staff(session: Session) -> list[Staff]:
    """Return the staff who may own a ticket, by name."""
    roles = [role for role in permissions.RIGHTS_BY_ROLE if permissions.may(role, Right.WORK)]
    present = directory.select_present_staff().where(Staff.role.in_(roles))
    return list(session.scalars(present))


def parse_selected_tickets(values: list[str]) -> dict[int, int | None]:
    """Return the owner id shown for each selected ticket id; None for no owner."""
    pairs = [value.partition(":")[::2] for value in values]
    # A box that no page of ours has made is left out.
    numbers = ((parse_id(ticket), parse_id(owner)) for ticket, owner in pairs)
    return {ticket: owner or None for ticket, owner in numbers if ticket}


def build_checkbox_value(ticket: Ticket) -> str:
    """Return the checkbox value of a ticket in a list: its id, and the owner id it shows."""
    return f"{ticket.id}:{ticket.owner_id or 0}"
