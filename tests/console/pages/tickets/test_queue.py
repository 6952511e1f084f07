"""The lists as the desk sees and works them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event, insert, select

from tests.support.context import HandClock, make_mail, make_row, open_ticket
from tests.support.signed_in_client import Desk, sign_in_at_desk
from workflow.context import AppContext
from workflow.models.accounts import WebSession
from workflow.models.core import Company, Message, Staff, Ticket
from workflow.models.states import Role, Status
from workflow.process import QUEUE_NAME
from workflow.tickets import views
from workflow.tickets.actions import Assign


def list_numbers(page: str) -> list[int]:
    return [int(n) for n in re.findall(r'<tr data-ticket="(\d+)"', page)]


def get_owner(context: AppContext, number: int) -> str | None:
    with context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        return ticket.owner.name if ticket.owner else None


@contextmanager
def capture_queries(context: AppContext) -> Iterator[list[str]]:
    """The statements the block has the database do."""
    statements: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        del connection, cursor
        statements.append(statement)

    event.listen(context.store.engine, "before_cursor_execute", note)
    yield statements
    event.remove(context.store.engine, "before_cursor_execute", note)


def open_many_tickets(context: AppContext, count: int) -> None:
    """Open tickets, with subjects as long as they may be and a company each."""
    with context.store.transaction() as session:
        now = context.clock()
        companies = [
            {"name": f"Practice {n} " + "x" * 300, "key": f"practice {n}", "created_at": now}
            for n in range(count)
        ]
        session.execute(insert(Company), companies)
        first = session.query(Company.id).order_by(Company.id).limit(1).scalar() or 1
        ticket_columns = {
            "subject": "<&> " * 200,
            "pipeline": "p",
            "type": "t",
            "stage": "4-In Progress",
            "status": Status.OPEN,
            "transport": "smtp",
            "format": "mail",
            "created_at": now,
            "period_started_at": now,
            "due_at": now,
            "telemedicine": True,
            "caveats": [],
            "automated": False,
            "link": "",
            "thread_id": "",
            "period": 1,
        }
        ticket_columns["name"] = "Support \N{EN DASH} " + "&" * 300
        rows = [{**ticket_columns, "company_id": first + n} for n in range(count)]
        session.execute(insert(Ticket), rows)
        columns = {
            "direction": "in",
            "format": "mail",
            "text": "help " * 1000,
            "details": [],
            "caveats": [],
            "at": now,
        }
        session.execute(
            insert(Message),
            [{**columns, "ticket_id": n} for n in session.scalars(select(Ticket.id))],
        )


def test_the_queue_comes_first_with_how_many_wait_in_its_title(any_context: AppContext) -> None:
    desk = sign_in_at_desk(any_context)
    number = open_ticket(any_context, make_mail(subject="a <b>bold</b> claim"))
    page = desk.get("/").text
    assert f"<title>(1) {QUEUE_NAME}</title>" in page
    assert list_numbers(page) == [number]
    assert "a &lt;b&gt;bold&lt;/b&gt; claim" in page
    assert "due in 2 d" in page


@pytest.mark.parametrize("view", list(views.VIEWS))
def test_every_view_has_a_page_of_few_queries_that_says_what_to_do_when_it_is_empty(
    any_context: AppContext, view: str
) -> None:
    desk = sign_in_at_desk(any_context)
    with capture_queries(any_context) as statements:
        page = desk.get(f"/?view={view}")
    assert page.status_code == 200
    assert views.VIEWS[view].title in page.text
    assert len(statements) <= 20


def test_a_full_page_is_light_and_takes_few_queries(any_context: AppContext) -> None:
    open_many_tickets(any_context, 60)
    desk = sign_in_at_desk(any_context, Role.LEAD)
    with capture_queries(any_context) as statements:
        page = desk.get("/?q=practice&view=open&sort=due")
    assert len(list_numbers(page.text)) == 50
    assert len(page.data) < 300_000
    assert len([s for s in statements if not s.startswith(("SAVEPOINT", "RELEASE"))]) <= 20
    assert "1–50 of 60" in page.text
    assert len(list_numbers(desk.get("/?view=open&page=2").text)) == 10


@pytest.mark.parametrize(
    "address",
    [
        "/?view=nonsense",
        "/?page=-1",
        "/?page=99999999999",
        "/?owner=x&stage=y&door=z&sort=w",
        "/search?q=%22",
        "/search",
        "/?view=all&q=%00",
        "/?view=all&q=" + "a" * 3000,
        "/?company=%25",
        "/search?q=999999999",
    ],
)
def test_no_address_is_an_error(any_context: AppContext, address: str) -> None:
    assert sign_in_at_desk(any_context).get(address).status_code == 200


def test_a_number_goes_to_its_ticket_and_words_to_those_that_have_them(
    any_context: AppContext,
) -> None:
    desk, number = (
        sign_in_at_desk(any_context),
        open_ticket(any_context, make_mail("the claim was denied")),
    )
    assert desk.get(f"/search?q=%23{number}").location == f"/tickets/{number}"
    assert desk.get(f"/search?q={number}").location == f"/tickets/{number}"
    page = desk.get("/search?q=deni").text
    assert list_numbers(page) == [number]
    assert "<mark>denied</mark>" in page
    assert "No ticket was found for" in desk.get("/search?q=unheard-of").text


def test_an_agent_takes_and_gives_tickets_as_on_their_pages(any_context: AppContext) -> None:
    desk, number = sign_in_at_desk(any_context), open_ticket(any_context)
    page = desk.get("/").text
    assert f'value="{number}:0" aria-label="Take ticket {number}"' in page
    taken = desk.post("/queue/assign", {"take": f"{number}:0", "back": "view=unassigned"})
    assert taken.location == "/?view=unassigned"
    assert get_owner(any_context, number) == "Ann Lee"
    page = desk.get("/").text
    assert f"1 ticket is yours: #{number}" in page
    with any_context.store.read_only() as session:
        ann = session.query(Staff).one().id
    other = sign_in_at_desk(any_context, name="Bob Roe")
    other.post("/queue/assign", {"take": f"{number}:0"})
    assert get_owner(any_context, number) == "Ann Lee"
    assert "somebody has changed what you saw" in other.get("/").text
    other.post("/queue/assign", {"take": f"{number}:{ann}"})
    assert get_owner(any_context, number) == "Bob Roe"
    with any_context.store.read_only() as session:
        bob = session.query(Staff).filter_by(name="Bob Roe").one().id
    other.post("/queue/assign", {"ticket": f"{number}:{bob}", "to": str(ann)})
    assert get_owner(any_context, number) == "Ann Lee"


def test_take_is_offered_in_the_statuses_in_which_a_ticket_may_be_assigned(
    any_context: AppContext,
) -> None:
    tickets = {status: open_ticket(any_context, make_mail("please help")) for status in Status}
    with any_context.store.transaction() as session:
        for status, number in tickets.items():
            session.get_one(Ticket, number).status = status
    page = sign_in_at_desk(any_context).get("/search?q=help").text
    assert sorted(list_numbers(page)) == sorted(tickets.values())
    offered = {int(n) for n in re.findall(r'aria-label="Take ticket (\d+)"', page)}
    assert offered == {tickets[status] for status in Assign.statuses}


def test_a_lead_gives_many_and_takes_them_back(any_context: AppContext) -> None:
    lead, first, second = (
        sign_in_at_desk(any_context, Role.LEAD, "Lea Moss"),
        open_ticket(any_context),
        open_ticket(any_context),
    )
    with any_context.store.transaction() as session:
        olga = Staff(name="Olga", email="", role=Role.AGENT, created_at=any_context.clock())
        auditor = Staff(name="Otto", email="", role=Role.AUDITOR, created_at=any_context.clock())
        session.add_all([olga, auditor])
    lead.get("/")
    boxes = [f"{first}:0", f"{second}:0"]
    lead.post("/queue/assign", {"ticket": boxes, "to": str(olga.id), "back": "view=open&evil=//x"})
    assert [get_owner(any_context, n) for n in (first, second)] == ["Olga", "Olga"]
    page = lead.get("/").text
    assert f"2 tickets are given to Olga: #{first}, #{second}" in page
    marks = re.findall(r'name="mark" value="(\d+)"', page)
    assert "Assigned by mistake?" not in lead.get("/").text  # offered once
    lead.post("/queue/undo", {"mark": marks})
    assert [get_owner(any_context, n) for n in (first, second)] == [None, None]
    assert lead.post("/queue/assign", {"ticket": boxes, "to": str(auditor.id)}).status_code == 302
    assert "Otto only looks on" in lead.get("/").text
    assert [get_owner(any_context, n) for n in (first, second)] == [None, None]
    assert lead.post("/queue/assign", {"to": str(olga.id)}).status_code == 302
    assert "Choose tickets first" in lead.get("/").text


def test_an_auditor_sees_the_lists_and_no_buttons(any_context: AppContext) -> None:
    number, desk = open_ticket(any_context), sign_in_at_desk(any_context, Role.AUDITOR)
    page = desk.get("/").text
    assert list_numbers(page) == [number]
    assert "Take" not in page
    assert desk.post("/queue/assign", {"take": f"{number}:0"}).status_code == 403


def fetch_news(desk: Desk, page: str, query: str = "view=unassigned") -> tuple[int, dict[str, str]]:
    found = re.search(r'data-digest="([^"]+)"', page)
    answer = desk.get(f"/queue/news?{query}&seen={found[1] if found else ''}")
    return answer.status_code, answer.json if answer.status_code == 200 else {}


def test_what_is_new_comes_without_reloading(any_context: AppContext) -> None:
    desk, first = sign_in_at_desk(any_context), open_ticket(any_context)
    page = desk.get("/").text
    assert fetch_news(desk, page) == (204, {})
    second = open_ticket(any_context)
    status, news_json = fetch_news(desk, page)
    assert (status, news_json["count"], list_numbers(news_json["rows"])) == (
        200,
        "2",
        [first, second],
    )


def test_looking_for_news_keeps_nobody_signed_in(any_context: AppContext, clock: HandClock) -> None:
    desk = sign_in_at_desk(any_context)
    for _ in range(16):
        clock.turn(minutes=1)
        answer = desk.get("/queue/news")
    assert answer.status_code == 302
    with any_context.store.read_only() as session:
        assert session.query(WebSession).count() <= 1


def test_a_list_is_saved_renamed_deleted_and_brought_back(any_context: AppContext) -> None:
    desk = sign_in_at_desk(any_context)
    open_ticket(any_context, make_row())
    query = "view=open&company=sunrise&sort=due"
    assert (
        desk.post("/views", {"name": "Sunrise", "query": f"{query}&evil=1"}).location
        == f"/?{query}"
    )
    page = desk.get(f"/?{query}").text
    number = re.findall(r'action="/views/(\d+)"', page)[0]
    assert "Sunrise" in page
    assert (
        "Not saved: you have a view of this name"
        in desk.get(desk.post("/views", {"name": "Sunrise"}).location).text
    )
    desk.post(f"/views/{number}", {"name": "Moonlight"})
    assert "Moonlight" in desk.get("/").text
    gone = desk.post(f"/views/{number}/delete").location
    page = desk.get(gone).text
    assert "“Moonlight” was deleted" in page
    name, kept = re.findall(
        r'name="(?:name|query)" value="([^"]+)"', page.partition("was deleted")[0]
    )[-2:]
    desk.post("/views", {"name": name, "query": kept.replace("&amp;", "&")})
    assert f'href="/?{query.replace("&", "&amp;")}">Moonlight' in desk.get("/").text


def test_nobody_touches_the_views_of_others(any_context: AppContext) -> None:
    ann, bob = sign_in_at_desk(any_context), sign_in_at_desk(any_context, name="Bob Roe")
    ann.post("/views", {"name": "Mine", "query": "view=mine"})
    bob.post("/views/1", {"name": "Yours"})
    bob.post("/views/1/delete")
    assert "Mine" in ann.get("/").text
    assert "Mine" not in bob.get("/").text.replace("My tickets", "")


def test_the_folded_filters_say_which_are_on(context: AppContext) -> None:
    desk = sign_in_at_desk(context)
    with context.store.read_only() as session:
        mine = session.scalar(select(Staff.id))
    labels = {
        "/": "Filter and order",
        "/?view=completed": "Filter and order",
        "/?owner=0": "Filtered: Nobody",
        "/?sort=oldest": "Filter and order",
        "/?sort=newest": "Filtered: Newest first",
        f"/?company=<Sun>&door=imap&owner={mine}&stage=5-Audit&telemedicine=1": (
            "Filtered: &lt;Sun&gt;, imap, Ann Lee, 5-Audit, Telemedicine"
        ),
    }
    for path, words in labels.items():
        assert f">{words}</summary>" in desk.get(path).text, path
