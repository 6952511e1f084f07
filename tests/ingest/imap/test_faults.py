"""Mails that an IMAP server does not deliver, or that we cannot take.

They are fetched later, and hold up nothing else. The server is a real Dovecot behind a proxy that
spoils single commands.
"""

import pytest
from sqlalchemy.exc import IntegrityError

from console.presenters.operations import present_status
from ingest.imap import reader as imap_reader
from ingest.imap.checkpoints import StoredCheckpoints
from ingest.imap.first_look import Checkpoint
from ingest.intake import Arrival, Intake, Transport
from ingest.replay.reprocess import UnreadableError, try_replay
from ingest.replay.retry import replay
from parsers.item import Format
from tests.support.context import HandClock, count_rows
from tests.support.dovecot import ALL, PASSWORD, Dovecot
from tests.support.imap_proxy import Proxy
from tests.support.imap_reader import (
    FLAG,
    NO,
    Reader,
    list_subjects,
    list_troubles,
    make_raw_mail,
    make_spoiler,
    until,
)
from workflow.context import AppContext
from workflow.models.core import Delivery, ItemFault, Ticket
from workflow.models.states import DeliveryState
from workflow.settings.settings import Mailbox


@pytest.fixture
def box(proxy: Proxy, user: str) -> Mailbox:
    return Mailbox(host=ALL, port=proxy.port, tls=False, user=user, password=PASSWORD, since="all")


@pytest.fixture
def reader(context: AppContext, box: Mailbox) -> Reader:
    return Reader(context, box)


NOTHING = b"{tag} OK done\r\n"
NONSENSE = b"* 1 FETCH (UID 1 BODY[] {nonsense\r\n{tag} OK done\r\n"
WAYS = {
    "says NO": NO,
    "says BAD": b"{tag} BAD what?\r\n",
    "gives nothing": NOTHING,
    "gives NIL": b"* 2 FETCH (UID 2 BODY[] NIL)\r\n{tag} OK done\r\n",
    "gives nonsense": b"* 2 FETCH (UID 2 BODY[] )(((\r\n{tag} OK done\r\n",
    "hangs up": b"",
    "says BYE": b"* BYE going down\r\n",
}


@pytest.mark.parametrize("answer", WAYS.values(), ids=WAYS)
def test_a_mail_the_server_does_not_give_is_fetched_later_and_those_behind_it_now(
    server: Dovecot,
    proxy: Proxy,
    user: str,
    reader: Reader,
    context: AppContext,
    clock: HandClock,
    answer: bytes,
) -> None:
    reader.pause = 60
    for name in ("one", "two", "three"):
        server.deliver(user, make_raw_mail(name))
    proxy.spoil = make_spoiler(answer, 2, what=b"BODY.PEEK")
    with reader.run():
        until(lambda: list_subjects(context) == ["one", "three"], 20)
        reader.wait_for_looks(1)
        assert count_rows(context, Delivery) == 2, "nothing is stored that is not the mail"
        assert [n for n, _ in list_troubles(context)] == [1]
        assert server.read_flags(user) == {1: {FLAG}, 2: set(), 3: {FLAG}}
        proxy.spoil = lambda _line: None
        clock.turn(seconds=61)
        until(lambda: list_subjects(context) == ["one", "three", "two"], 20)
        until(lambda: list_troubles(context) == [])
    assert server.read_flags(user) == {1: {FLAG}, 2: {FLAG}, 3: {FLAG}}


def test_a_server_that_refuses_every_fetch_loses_nothing_and_recovers_over_a_restart_of_ours(
    server: Dovecot, proxy: Proxy, user: str, reader: Reader, context: AppContext, clock: HandClock
) -> None:
    for number in range(5):
        server.deliver(user, make_raw_mail(f"mail {number}"))
    proxy.spoil = make_spoiler(NO)
    reader.pause = 60
    with reader.run():
        until(lambda: list_troubles(context) == [(5, "the server refused")], 20)
        reader.wait_for_looks()
        assert present_status(context)["needs"] == [
            n for n in present_status(context)["needs"] if "mailbox" not in n
        ]
        clock.turn(minutes=6)
        (need,) = [
            need for need in present_status(context)["needs"] if "5 mails cannot be fetched" in need
        ]
        assert f"mailbox {reader.box.key}" in need
        assert "since 2026-03-02 15:00 UTC" in need
    assert count_rows(context, Delivery) == 0
    proxy.spoil = lambda _line: None
    server.deliver(user, make_raw_mail("new"))
    clock.turn(minutes=2)
    with reader.run():
        until(lambda: len(list_subjects(context)) == 6, 20)
        until(lambda: list_troubles(context) == [])
    assert set(server.read_flags(user)) == set(range(1, 7))


def test_as_soon_as_one_came_the_others_are_not_waited_for(
    server: Dovecot, proxy: Proxy, user: str, reader: Reader, context: AppContext, clock: HandClock
) -> None:
    reader.pause = 60
    proxy.spoil = make_spoiler(NO)
    server.deliver(user, make_raw_mail("early"))
    with reader.run():
        until(lambda: list_troubles(context) == [(1, "the server refused")], 20)
        clock.turn(seconds=50)
        server.deliver(user, make_raw_mail("late"))
        until(lambda: list_troubles(context) == [(2, "the server refused")], 20)
        proxy.spoil = lambda _line: None
        clock.turn(seconds=15)  # the first one's pause is over, the second one's is not
        until(lambda: list_subjects(context) == ["early", "late"], 20)


def test_after_a_change_of_uidvalidity_what_was_to_be_fetched_is_read_with_all_others(
    server: Dovecot, proxy: Proxy, user: str, reader: Reader, context: AppContext
) -> None:
    for name in ("one", "two"):
        server.deliver(user, make_raw_mail(name))
    proxy.spoil = make_spoiler(NO, 2, what=b"BODY.PEEK")
    with reader.run():
        until(lambda: list_troubles(context) == [(1, "the server refused")], 20)
    for index in [
        *server.get_maildir(user).glob("dovecot.index*"),
        server.get_maildir(user) / "dovecot-uidlist",
    ]:
        index.unlink()
    proxy.spoil = lambda _line: None
    with reader.run():
        until(lambda: list_subjects(context) == ["one", "two"], 20)
        until(lambda: list_troubles(context) == [])


def test_a_mail_that_a_person_took_away_meanwhile_is_waited_for_no_longer(
    server: Dovecot, proxy: Proxy, user: str, reader: Reader, context: AppContext
) -> None:
    server.deliver(user, make_raw_mail("one"))
    proxy.spoil = make_spoiler(NO, what=b"BODY.PEEK")
    with reader.run():
        until(lambda: list_troubles(context) == [(1, "the server refused")], 20)
        with server.connect_client(user) as person:
            person.delete_messages([1])
            person.uid_expunge([1])
        proxy.spoil = lambda _line: None
        until(lambda: list_troubles(context) == [], 20)
    assert count_rows(context, Delivery) == 0


def test_beyond_a_bound_the_checkpoint_waits_and_nothing_is_lost(
    server: Dovecot,
    proxy: Proxy,
    user: str,
    reader: Reader,
    context: AppContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(imap_reader, "MAX_DEFERRED", 3)
    for number in range(6):
        server.deliver(user, make_raw_mail(f"mail {number}"))
    proxy.spoil = make_spoiler(NO)
    with reader.run():
        until(lambda: list_troubles(context) == [(3, "the server refused")], 20)
        until(lambda: len([line for line in proxy.client_lines if b"LOGIN" in line]) > 3, 20)
        assert count_rows(context, ItemFault) == 3
        saved = StoredCheckpoints(context.store).load(reader.box.key)
        assert saved is not None
        assert saved.last_uid == 3
        proxy.spoil = lambda _line: None
        until(lambda: len(list_subjects(context)) == 6, 20)


FAULTS = [
    KeyError("words of a customer"),
    MemoryError(),
    UnicodeError(),
    IntegrityError("words of a customer", {}, Exception()),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_fault_of_ours_at_one_mail_stays_with_that_mail(
    server: Dovecot, user: str, reader: Reader, context: AppContext, fault: Exception
) -> None:
    """Arms a fault in our own code for one mail.

    The others are taken, and it is named until it is corrected.
    """
    intake, fault_switch = Intake(context), [True]

    def accept(arrival: Arrival) -> int:
        if fault_switch and b"Subject: two" in arrival.raw:
            raise fault
        return intake.accept(arrival)

    reader.accept = accept
    for name in ("one", "two", "three"):
        server.deliver(user, make_raw_mail(name))
    with reader.run():
        until(lambda: list_subjects(context) == ["one", "three"], 20)
        until(lambda: list_troubles(context) == [(1, f"an error of ours, {type(fault).__name__}")])
        fault_switch.clear()
        until(lambda: list_subjects(context) == ["one", "three", "two"], 20)
        until(lambda: list_troubles(context) == [])


# -- deliveries of earlier versions that are only the address of a mail ----


def store_url_delivery(context: AppContext, box: Mailbox, uid_validity: int, uid: int) -> int:
    """Store what an earlier version stored for a mail that it could not fetch."""
    user = box.user.replace("@", "%40")
    url = f"imap://{user}@{box.host}/INBOX;UIDVALIDITY={uid_validity}/;UID={uid}"
    envelope: dict[str, object] = {"mailbox": box.key, "uid": uid, "uid_validity": uid_validity}
    return Intake(context).accept(
        Arrival(
            transport=Transport.IMAP,
            format=Format.MAIL,
            raw=url.encode(),
            envelope=envelope,
            unreadable_reason="the mail server could not deliver this mail",
            reference=f"{box.key};{uid_validity}/{uid}",
        )
    )


def get_uid_validity(server: Dovecot, user: str) -> int:
    with server.connect_client(user) as client:
        return int(client.folder_status("INBOX", ["UIDVALIDITY"])[b"UIDVALIDITY"])


def test_replaying_the_address_of_a_mail_opens_no_ticket_and_fetches_the_mail(
    server: Dovecot, user: str, reader: Reader, context: AppContext
) -> None:
    server.deliver(user, make_raw_mail("the real one"))
    number = store_url_delivery(context, reader.box, get_uid_validity(server, user), 1)
    StoredCheckpoints(context.store).save(
        reader.box.key, Checkpoint(get_uid_validity(server, user), 1)
    )
    with pytest.raises(UnreadableError, match="only its address"):
        try_replay(context, number)
    replayed = replay(context, number, by="Ann")
    assert replayed is not None
    assert (replayed.state, count_rows(context, Ticket)) == (DeliveryState.FAILED, 0)
    assert "only its address" in replayed.reason
    assert list_troubles(context) == [(1, "asked for by replay, not fetched yet")]
    with reader.run():
        until(lambda: list_subjects(context) == ["the real one"], 20)
        until(lambda: list_troubles(context) == [])
    with context.store.read_only() as session:
        settled = session.get_one(Delivery, number)
    assert (settled.state, settled.reason) == (
        DeliveryState.DISMISSED,
        f"the mail was fetched later: delivery {number + 1}",
    )


@pytest.mark.parametrize("uid_validity", ["same", "another"])
def test_replaying_the_address_of_a_mail_that_is_gone_stays_failed(
    server: Dovecot, user: str, reader: Reader, context: AppContext, uid_validity: str
) -> None:
    known = get_uid_validity(server, user) if uid_validity == "same" else 7
    number = store_url_delivery(context, reader.box, known, 1)
    replay(context, number, by="Ann")
    with reader.run():
        until(lambda: list_troubles(context) == [], 20)
    with context.store.read_only() as session:
        assert session.get_one(Delivery, number).state is DeliveryState.FAILED
    assert count_rows(context, Ticket) == 0


def test_a_customers_mail_about_such_an_address_is_read_like_any_other(context: AppContext) -> None:
    raw = b"imap://u@h/INBOX;UIDVALIDITY=1/;UID=2"
    for transport, body in ((Transport.SMTP, raw), (Transport.IMAP, b"Subject: x\r\n\r\n" + raw)):
        Intake(context).accept(Arrival(transport=transport, format=Format.MAIL, raw=body))
    assert len(list_subjects(context)) == 2
