"""Answering from the ticket.

Nothing typed is lost, nothing leaves unasked, and ten seconds to think again.
"""

import re
from io import BytesIO
from typing import Any

import pytest

from parsers.item import Address, Format, InboundItem
from tests.support.context import (
    ANN,
    HandClock,
    count_rows,
    deliver,
    get_contact,
    list_audit_entries,
    make_mail,
    make_phone_call,
    open_ticket,
    reach,
)
from tests.support.signed_in_client import Desk, sign_in_at_desk
from workflow.context import AppContext
from workflow.mail import drafts, sender
from workflow.models.core import OutgoingMail, Ticket, WrittenFile, WrittenMail
from workflow.models.states import OutboxState, Role, Status
from workflow.process import Milestone, Template

BOB = "bob@practice.example"


@pytest.fixture
def ticket(context: AppContext) -> int:
    number = open_ticket(
        context, make_mail("The claim was denied", subject="Denied claim of Zebulon Quackenbush")
    )
    sender.send_waiting(context)
    return number


@pytest.fixture
def desk(context: AppContext) -> Desk:
    return sign_in_at_desk(context)


def read_form(desk: Desk, number: int, path: str = "") -> dict[str, Any]:
    """The form as the page has it."""
    page = desk.get(f"/tickets/{number}/answer{path}").text
    return read(page)


def read(page: str) -> dict[str, Any]:
    hidden_fields = {n: read_value(page, n) for n in ("key", "seen", "subject", "cc")}
    text = re.search(r'<textarea[^>]*name="text"[^>]*>(.*?)</textarea>', page, re.DOTALL)
    assert text
    agreement = re.search(r'name="agreed" value="(\w+)"', page)
    checked_fields = {
        n: re.findall(rf'name="{n}" value="([^"]+)"[^>]* checked', page) for n in ("to", "ticks")
    }
    return {
        **hidden_fields,
        **checked_fields,
        "text": text[1].removeprefix("\n"),
        **({"agreed": agreement[1]} if agreement else {}),
    }


def read_value(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, name
    return found[1]


def do(desk: Desk, number: int, what: str, given: dict[str, Any], **more: Any) -> Any:
    return desk.post(
        f"/tickets/{number}/answer",
        {**given, "do": what, **more},
        content_type="multipart/form-data",
    )


def list_mails(context: AppContext) -> list[OutgoingMail]:
    with context.store.read_only() as session:
        return (
            session.query(OutgoingMail)
            .filter(OutgoingMail.written_id.is_not(None))
            .order_by(OutgoingMail.id)
            .all()
        )


def write(desk: Desk, number: int, text: str = "It was filed again.", **more: Any) -> Any:
    return do(desk, number, "send", read_form(desk, number), text=text, **more)


# -- the form ----


def test_the_form_begins_with_who_can_be_reached_and_never_the_customers_subject(
    context: AppContext, desk: Desk
) -> None:
    number = open_ticket(
        context,
        make_phone_call(
            Address("Bob", BOB), Address("", "no-reply@practice.example"), subject="Mrs Quack"
        ),
    )
    with context.store.transaction() as session:
        session.get_one(Ticket, number).contacts[0].contact.unreachable = True
    found = read_form(desk, number)
    assert found["to"] == [BOB]
    assert found["subject"] == f"Billing Support Ticket #{number}"
    page = desk.get(f"/tickets/{number}/answer").text
    assert ANN.email in page
    assert "mail to this address came back before" in page
    assert "an address nobody reads" in page
    assert 'name="ticks"' in page
    assert " checked" not in page.partition('name="ticks"')[2].partition("</fieldset>")[0]


def test_without_an_address_the_page_says_what_to_do(context: AppContext, desk: Desk) -> None:
    number = open_ticket(
        context,
        InboundItem(format=Format.PHONE, external_id="p", sender=Address("Ann", ""), text="t"),
    )
    page = desk.get(f"/tickets/{number}/answer").text
    assert "Call the customer" in page
    assert write(desk, number).status_code == 422


def test_a_text_is_put_in_with_its_variables_as_plain_words(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    with context.store.transaction() as session:
        session.get_one(Ticket, ticket).contacts[0].contact.name = "Ann <b>{{ desk }}</b>\nBcc: x"
    form = read_form(desk, ticket, f"?text={Template.RECAP}")
    assert form["text"].startswith(
        "Hello Ann &lt;b&gt;{{ desk }}&lt;/b&gt; Bcc: x,\n\nthis is the recap"
    )
    assert form["subject"] == f"Recap of Resolution: Billing Support Ticket #{ticket}"
    assert form["ticks"] == ["RECAP_SENT"]
    assert f"Ticket number: {ticket}" in form["text"]


def test_another_text_takes_the_place_of_one_nobody_touched_and_adds_to_what_is_typed(
    desk: Desk, ticket: int
) -> None:
    first = read(
        do(desk, ticket, "text", read_form(desk, ticket), name="Billing Support Follow Up").text
    )
    assert "I am working on" in first["text"]
    assert first["ticks"] == ["FOLLOW_UP_SENT"]
    second = read(do(desk, ticket, "text", first, name=Template.RECAP).text)
    assert "I am working on" not in second["text"]
    assert second["ticks"] == ["RECAP_SENT"]
    third = read(
        do(
            desk,
            ticket,
            "text",
            second,
            text="My own words.",
            name="Billing Support Please Call Us",
        ).text
    )
    assert third["text"].startswith("My own words.\n\nHello Ann Example,")
    assert third["ticks"] == []


def test_the_box_of_the_recap_is_left_to_people_where_the_settings_say_so(
    context: AppContext, ticket: int
) -> None:
    object.__setattr__(
        context, "settings", context.settings.model_copy(update={"recap_ticks_box": False})
    )
    assert read_form(sign_in_at_desk(context), ticket, f"?text={Template.RECAP}")["ticks"] == []


def test_the_preview_shows_exactly_what_would_be_sent_and_sends_nothing(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    form = read_form(desk, ticket) | {
        "text": "It was <filed> again.",
        "cc": f"Bob <{BOB}>",
        "ticks": "FOLLOW_UP_SENT",
    }
    answer = do(desk, ticket, "preview", form, files=(BytesIO(b"%PDF-"), "a.pdf"))
    preview = answer.text.partition('id="preview"')[2].partition("</section>")[0]
    for words in (
        "Billing Support &lt;support@localhost&gt;",
        ANN.email,
        BOB,
        f"Billing Support Ticket #{ticket}",
        "It was &lt;filed&gt; again.",
        "a.pdf (5 bytes)",
        "ticks 4-Support Follow Up Sent",
    ):
        assert words in preview
    assert answer.status_code == 200
    assert list_mails(context) == []


def test_nothing_typed_is_lost_on_an_error_files_with_it(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    form = read_form(desk, ticket) | {
        "text": "Long thought words",
        "cc": "nobody",
        "subject": "Mine",
        "to": [],
    }
    answer = do(
        desk,
        ticket,
        "send",
        form,
        files=[(BytesIO(b"%PDF-"), "../a.pdf"), (BytesIO(b""), "empty.txt")],
    )
    assert answer.status_code == 422
    assert "empty.txt is empty." in answer.text
    answer = do(desk, ticket, "send", read(answer.text))
    assert answer.status_code == 422
    assert "choose who gets it." in answer.text
    assert "this is no mail address: nobody." in answer.text
    kept = read(answer.text)
    assert (kept["text"], kept["cc"], kept["subject"], kept["to"]) == (
        "Long thought words",
        "nobody",
        "Mine",
        [],
    )
    assert ">a.pdf</a>" in answer.text
    assert list_mails(context) == []


def test_signed_out_the_draft_is_there_after_signing_in_again(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    form = read_form(desk, ticket) | {"text": "Half a sent"}
    assert desk.post(f"/tickets/{ticket}/answer/draft", form).status_code == 204
    token = desk.token
    desk.post("/sign-out")
    desk.get("/login")
    lost = do(desk, ticket, "send", form, csrf_token=desk.token)
    assert lost.status_code == 401
    assert list_mails(context) == []
    assert token
    desk.sign_in("ann@pmb.example")
    assert read_form(desk, ticket)["text"] == "Half a sent"
    assert "You have a draft of a reply" in desk.get(f"/tickets/{ticket}").text


def test_a_draft_is_its_writers_until_it_is_sent_or_discarded(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    form = read_form(desk, ticket) | {"text": "Half a sent"}
    do(desk, ticket, "save", form, files=(BytesIO(b"x"), "a.txt"))
    other = sign_in_at_desk(context, name="Rita Roe")
    assert read_form(other, ticket)["text"] == ""
    with context.store.read_only() as session:
        file = session.query(WrittenFile).one().id
    assert desk.get(f"/answer-files/{file}").data == b"x"
    assert other.get(f"/answer-files/{file}").status_code == 404
    assert other.post(f"/tickets/{ticket}/answer/draft", form).status_code == 400
    assert (
        do(desk, ticket, f"remove:{'9' * 5000}", form).status_code == 200
    )  # no number of ours: nothing goes
    assert count_rows(context, WrittenFile) == 1
    assert do(desk, ticket, f"remove:{file}", form).status_code == 200
    assert count_rows(context, WrittenFile) == 0
    assert do(desk, ticket, "discard", form).status_code == 302
    assert count_rows(context, WrittenMail) == 0


def test_a_file_beyond_the_bound_is_not_left_out_unnoticed(
    context: AppContext, desk: Desk, ticket: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "MAX_BYTES", 200_000)
    files = [(BytesIO(b"1" * 120_000), "a.bin"), (BytesIO(b"2" * 120_000), "b.bin")]
    answer = do(desk, ticket, "send", read_form(desk, ticket) | {"text": "words"}, files=files)
    assert answer.status_code == 422
    assert "b.bin is left out: all files together may be" in answer.text
    assert ">a.bin</a>" in answer.text
    assert list_mails(context) == []


# -- sending and undoing ----


def test_sent_it_can_be_undone_and_its_words_come_back(
    context: AppContext, desk: Desk, ticket: int, clock: HandClock
) -> None:
    assert write(desk, ticket, cc=BOB).status_code == 302
    page = desk.get(f"/tickets/{ticket}").text
    assert "Sending your mail to ann@practice.example in 10 seconds" in page
    undo = re.search(r'action="(/tickets/\d+/answer/\d+/take-back)"', page)
    assert undo
    clock.turn(seconds=9)
    sender.send_waiting(context)
    answer = desk.post(undo[1])
    assert answer.headers["Location"] == f"/tickets/{ticket}/answer"
    found = read_form(desk, ticket)
    assert (found["text"], found["cc"]) == ("It was filed again.", BOB)
    assert {m.state for m in list_mails(context)} == {OutboxState.WITHHELD}
    assert "Undid sending an answer before it was sent" in desk.get(f"/tickets/{ticket}").text


def test_too_late_is_said_in_words(
    context: AppContext, desk: Desk, ticket: int, clock: HandClock
) -> None:
    write(desk, ticket)
    clock.turn(seconds=10)
    sender.send_waiting(context)
    page = desk.get(f"/tickets/{ticket}").text
    assert "take-back" not in page
    assert "It was filed again." in page
    written = list_mails(context)[0].written_id
    page = desk.post(f"/tickets/{ticket}/answer/{written}/take-back", follow_redirects=True).text
    assert (
        "Sending was not undone: too late: the mail is on its way to the customer."
        " Write another one." in page
    )


def test_nobody_else_undoes_it(context: AppContext, desk: Desk, ticket: int) -> None:
    write(desk, ticket)
    other = sign_in_at_desk(context, name="Rita Roe")
    assert "take-back" not in other.get(f"/tickets/{ticket}").text
    other.post(f"/tickets/{ticket}/answer/{list_mails(context)[0].written_id}/take-back")
    assert list_mails(context)[0].state is OutboxState.WAITING


def test_it_is_undone_on_its_own_ticket_only(context: AppContext, desk: Desk, ticket: int) -> None:
    write(desk, ticket)
    written = list_mails(context)[0].written_id
    other = open_ticket(context)
    assert desk.post(f"/tickets/{other}/answer/{written}/take-back").status_code == 404
    assert desk.post(f"/tickets/{ticket}/answer/99/take-back").status_code == 404
    assert list_mails(context)[0].state is OutboxState.WAITING


def test_pressed_twice_it_is_sent_once(context: AppContext, desk: Desk, ticket: int) -> None:
    given = read_form(desk, ticket) | {"text": "words"}
    assert [do(desk, ticket, "send", given).status_code for _ in range(2)] == [302, 302]
    assert len(list_mails(context)) == 1
    assert desk.post(f"/tickets/{ticket}/answer/draft", given).status_code == 409


def test_a_recap_ticks_its_box_once_it_is_sent(
    context: AppContext, desk: Desk, ticket: int, clock: HandClock
) -> None:
    reach(context, ticket, Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED)
    do(desk, ticket, "send", read_form(desk, ticket, f"?text={Template.RECAP}"))
    with context.store.read_only() as session:
        assert session.get_one(Ticket, ticket).status is Status.OPEN
    clock.turn(seconds=10)
    sender.send_waiting(context)
    with context.store.read_only() as session:
        assert session.get_one(Ticket, ticket).status is Status.COMPLETED
    assert 'name="ticks"' not in desk.get(f"/tickets/{ticket}/answer").text


def test_what_was_sent_shows_who_got_it_and_its_files(
    context: AppContext, desk: Desk, ticket: int, clock: HandClock
) -> None:
    write(desk, ticket, cc=BOB, files=(BytesIO(b"%PDF-1.7"), "a.pdf"))
    clock.turn(seconds=10)
    sender.send_waiting(context)
    page = desk.get(f"/tickets/{ticket}").text
    article = page.partition('class="card entry-out"')[2].partition("</article>")[0]
    assert f"to {ANN.email}" in article
    assert f"to {BOB}" in article
    assert article.count(">sent</span>") == 2
    assert ">a.pdf</a>" in article


# -- asking again ----


def test_a_second_answer_is_asked_about_and_the_first_is_shown(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    mine = read_form(desk, ticket) | {"text": "My answer."}
    other = sign_in_at_desk(context, name="Rita Roe")
    write(other, ticket, "Her answer.")
    answer = do(desk, ticket, "send", mine)
    assert answer.status_code == 409
    asked = answer.text.partition('id="changed"')[2].partition("</section>")[0]
    assert "The customer was answered" in asked
    assert "by Rita Roe" in asked
    assert "Her answer." in asked
    assert read(answer.text)["text"] == "My answer."
    assert len(list_mails(context)) == 1
    assert do(desk, ticket, "send", read(answer.text)).status_code == 302
    assert len(list_mails(context)) == 2


def test_what_the_customer_adds_meanwhile_is_shown_first(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    mine = read_form(desk, ticket) | {"text": "My answer."}
    with context.store.read_only() as session:
        first = session.get_one(Ticket, ticket).messages[0].message_id
    deliver(context, make_mail("Never mind, it is paid", in_reply_to=f"<{first}>"))
    answer = do(desk, ticket, "send", mine)
    assert answer.status_code == 409
    assert (
        "Never mind, it is paid"
        in answer.text.partition('id="changed"')[2].partition("</section>")[0]
    )


def test_my_own_second_mail_asks_nothing(context: AppContext, desk: Desk, ticket: int) -> None:
    write(desk, ticket, "one")
    assert write(desk, ticket, "two").status_code == 302
    assert len(list_mails(context)) == 2


def test_patient_data_is_asked_about_and_audited_by_its_kind_only(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    answer = write(desk, ticket, "For Zebulon, DOB 04/12/1961 and SSN 123-45-6789, it is paid.")
    assert answer.status_code == 409
    asked = answer.text.partition('id="warned"')[2].partition("</section>")[0]
    assert "In the text: a date of birth, a Social Security number" in asked
    assert '<mark title="a date of birth">DOB 04/12/1961' in asked
    assert list_mails(context) == []
    assert do(desk, ticket, "send", read(answer.text)).status_code == 302
    assert len(list_mails(context)) == 1
    (entry,) = list_audit_entries(context, ticket, "answer promised")
    assert entry.detail["warned"] == ["BIRTH", "SSN"]
    assert "123" not in str(entry.detail) + entry.cause


def test_who_agrees_to_one_text_has_not_agreed_to_another(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    agreed = read(write(desk, ticket, "DOB 04/12/1961").text)
    answer = do(desk, ticket, "send", agreed | {"text": "DOB 04/12/1961, SSN 123-45-6789"})
    assert answer.status_code == 409
    assert list_mails(context) == []


def test_the_customers_subject_and_a_patient_of_the_ticket_are_known(
    context: AppContext, desk: Desk
) -> None:
    item = InboundItem(
        format=Format.FORMSTACK,
        external_id="f1",
        sender=ANN,
        text="help",
        subject="Denied claim of a patient",
        details=(("Patient Name", "Zebulon Q. Quackenbush"), ("Patient ID", "AB-99121")),
    )
    number = open_ticket(context, item)
    words = "The claim of Quackenbush, Zebulon (AB-99121) is paid."
    file = (BytesIO(b"x"), "zebulon_quackenbush.pdf")
    answer = write(desk, number, words, subject="Re: denied claim of a patient", files=file)
    assert answer.status_code == 409
    asked = answer.text.replace("&#39;", "'")
    assert "In the subject: the customer's own subject" in asked
    assert "In the text: a patient's name, a patient's or medical record number" in asked
    assert "In the name of the file zebulon_quackenbush.pdf: a patient's name" in asked


# -- rights, bounds ----


@pytest.mark.parametrize("path", ["", "/draft", "/1/take-back"])
def test_an_auditor_writes_to_nobody(context: AppContext, ticket: int, path: str) -> None:
    auditor = sign_in_at_desk(context, Role.AUDITOR)
    assert auditor.get(f"/tickets/{ticket}/answer").status_code == 403
    assert auditor.post(f"/tickets/{ticket}/answer{path}").status_code == 403


def test_there_is_nothing_to_answer_where_there_is_no_ticket(desk: Desk) -> None:
    assert desk.get("/tickets/99/answer").status_code == 404
    assert desk.post("/tickets/99/answer").status_code == 404
    assert desk.post("/tickets/99/answer/1/take-back").status_code == 404


def test_a_form_without_its_key_is_400(desk: Desk, ticket: int) -> None:
    assert do(desk, ticket, "send", {"text": "x"}).status_code == 400


def test_a_ticket_that_has_ended_says_so(context: AppContext, desk: Desk, ticket: int) -> None:
    with context.store.transaction() as session:
        session.get_one(Ticket, ticket).status = Status.SPAM
    answer = write(desk, ticket)
    assert answer.status_code == 422
    assert "reopen it first" in answer.text


def test_who_came_back_before_can_be_chosen_all_the_same(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    with context.store.transaction() as session:
        session.get_one(Ticket, ticket).contacts[0].contact.unreachable = True
    assert read_form(desk, ticket)["to"] == []
    assert write(desk, ticket, to=ANN.email).status_code == 302
    assert get_contact(context, ANN.email).unreachable


# -- the texts ----


@pytest.fixture
def lead(context: AppContext) -> Desk:
    found = sign_in_at_desk(context, Role.LEAD, "Lena Lee")
    found.get("/mail-texts")
    return found


def make_text(**more: str) -> dict[str, str]:
    fields = {
        "folder": "Denials",
        "name": "Timely filing",
        "subject": "",
        "body": "Hello {{ contact_name }}",
        "ticks": "",
    }
    return fields | more


def test_the_desk_makes_texts_of_its_own(lead: Desk, ticket: int) -> None:
    given = make_text(new="1", subject="About #{{ticket_number}}", ticks="FOLLOW_UP_SENT")
    assert lead.post("/mail-texts", given).status_code == 302
    page = lead.get(f"/tickets/{ticket}/answer").text
    assert '<optgroup label="Denials"><option value="Timely filing">' in page
    found = read_form(lead, ticket, "?text=Timely filing")
    assert found["text"].strip() == "Hello Ann Example"
    assert (found["subject"], found["ticks"]) == (f"About #{ticket}", ["FOLLOW_UP_SENT"])


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"body": "{{ patient }}"}, "nothing is known by {{ patient }}"),
        ({"subject": "{{contact_name.__class__}}"}, "stands there without a variable"),
        ({"body": "{% for x in y %}"}, "stands there without a variable"),
        ({"body": " \r\n"}, "the text is empty"),
        ({"name": "\n"}, "give it a name"),
        ({"body": "x" * 20_001}, "longer than 20,000"),
        ({"ticks": "RESOLVED"}, "there is no such box"),
        ({"name": Template.RECAP, "new": "1"}, "a canned response has this name"),
    ],
)
def test_a_text_that_cannot_be_used_is_not_saved_and_not_lost(
    lead: Desk, fields: dict[str, str], fault: str
) -> None:
    answer = lead.post("/mail-texts", make_text(**fields))
    assert answer.status_code == 422
    assert fault in answer.text
    assert (fields.get("body") or "Hello {{ contact_name }}") in answer.text


def test_a_change_and_a_deletion_can_be_undone(lead: Desk, ticket: int) -> None:
    def now() -> str:
        return read_form(lead, ticket, "?text=Timely filing")["text"].strip()

    lead.post("/mail-texts", make_text(body="first"))
    lead.post("/mail-texts", make_text(body="second"))
    assert now() == "second"
    lead.post("/mail-texts/delete", {"name": "Timely filing"})
    assert now() == ""
    for words in ("second", "first", ""):
        lead.post("/mail-texts/undo", {"name": "Timely filing"})
        assert now() == words
    assert (
        "nothing to undo"
        in lead.post("/mail-texts/undo", {"name": "Timely filing"}, follow_redirects=True).text
    )


def test_the_manuals_text_can_be_changed_and_not_deleted(lead: Desk, ticket: int) -> None:
    lead.post("/mail-texts/delete", {"name": Template.RECAP})
    lead.post("/mail-texts", make_text(name=Template.RECAP, body="ours", ticks="RECAP_SENT"))
    assert read_form(lead, ticket, f"?text={Template.RECAP}")["text"].strip() == "ours"
    lead.post("/mail-texts/undo", {"name": Template.RECAP})
    assert "this is the recap" in read_form(lead, ticket, f"?text={Template.RECAP}")["text"]


def test_texts_are_for_leads_to_change(desk: Desk) -> None:
    assert desk.get("/mail-texts").status_code == 403
    for path in ("", "/delete", "/undo"):
        assert desk.post(f"/mail-texts{path}", make_text()).status_code == 403
