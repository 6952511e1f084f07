"""Bounces of any program: action, addresses and reason, however broken they are."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.item import Bounce, InboundItem
from parsers.mail import message

FIXTURES = Path(__file__).parents[2].joinpath("fixtures", "mail")
WHOLE = [path.read_bytes() for path in sorted(FIXTURES.glob("bounce*.eml"))]


def read(raw: bytes) -> InboundItem:
    [item] = message.parse(raw)
    return item


def bounce(body: str, subject: str = "failure notice", header: str = "") -> Bounce:
    head = (
        "Return-Path: <>\nFrom: MAILER-DAEMON@mx.example\nTo: us@billing.example\nSubject:"
        f" {subject}\n{header}\n"
    )
    found = read(f"{head}{body}\n".encode()).bounce
    assert found is not None
    return found


def report(*fields: str) -> Bounce:
    """Bounce with a report that has these lines; the text beside it says nothing."""
    header = "Content-Type: multipart/report; report-type=delivery-status; boundary=zz\n"
    lines = "\n".join(fields)
    return bounce(
        f"--zz\n\nSorry.\n--zz\nContent-Type: message/delivery-status\n\n{lines}\n--zz--",
        header=header,
    )


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ("Final-Recipient: rfc822;a@x.ex", "Action: failed", "Status: 5.1.1"),
            ("failed", "5.1.1", "a@x.ex"),
        ),
        (
            ("final-recipient : RFC822; <A@X.ex>", "ACTION:Failed", "status: 5.1.1 (no)"),
            ("failed", "5.1.1", "a@x.ex"),
        ),
        (("Final-Recipient: rfc/822;a@x.ex", "Action: expired"), ("failed", "", "a@x.ex")),
        (
            ("Final-Recipient: rfc822;a@x.ex", "Action: Deferred", "Status: 4.2.2"),
            ("delayed", "4.2.2", "a@x.ex"),
        ),
        (("Final-Recipient: a@x.ex", "Status: 4.2.2"), ("delayed", "4.2.2", "a@x.ex")),
        (("Final-Recipient: a@x.ex", "Status: 2.0.0"), ("delivered", "2.0.0", "a@x.ex")),
        (
            ("Original-Recipient: rfc822;", "Final-Recipient: rfc822;a@x.ex"),
            ("failed", "", "a@x.ex"),
        ),
        (("Final-Recipient: rfc822;@relay.example:a@x.ex",), ("failed", "", "a@x.ex")),
        (
            ("Final-Recipient: X.400; /C=US/", "Original-Recipient: rfc822;a@x.ex"),
            ("failed", "", "a@x.ex"),
        ),
        (("Final-Recipient: rfc822;", " a@x.ex", "Action: failed"), ("failed", "", "a@x.ex")),
    ],
)
def test_a_report_is_parsed_from_its_fields(
    lines: tuple[str, ...], expected: tuple[str, str, str]
) -> None:
    found = report(*lines)
    assert (found.action, found.status, *found.failed) == expected


def test_the_worst_action_is_the_mails() -> None:
    parsed_bounce = report(
        "Reporting-MTA: dns; mx.example",
        "",
        *("Final-Recipient: rfc822; a@x.example", "Action: delivered", "Status: 2.0.0", ""),
        *(
            "Final-Recipient: rfc822; b@x.example",
            "Action: failed",
            "Status: 5.2.2",
            "Diagnostic-Code: 552 full",
            "",
        ),
        *("Final-Recipient: rfc822; c@x.example", "Action: delayed", "Status: 4.4.1", ""),
        *("Final-Recipient: rfc822; d@x.example", "Action: failed", "Status: 5.1.1"),
    )
    assert parsed_bounce == Bounce(
        action="failed", status="5.2.2", failed=("b@x.example", "d@x.example"), reason="552 full"
    )


def test_recipients_without_blank_lines_between_them() -> None:
    lines = (
        "Final-Recipient: a@x.example",
        "Action: failed",
        "Final-Recipient: b@x.example",
        "Action: failed",
    )
    assert report(*lines).failed == ("a@x.example", "b@x.example")


def test_a_vague_status_gives_way_to_the_answer_of_the_server() -> None:
    assert (
        report(
            "Final-Recipient: a@x.example", "Status: 5.0.0", "Diagnostic-Code: smtp; 550 5.2.1 no"
        ).status
        == "5.2.1"
    )
    assert (
        report(
            "Final-Recipient: a@x.example",
            "Status: 5.0.0",
            "Diagnostic-Code: smtp; 550 no such user",
        ).status
        == "5.1.1"
    )
    assert report("Final-Recipient: a@x.example", "Status: 5.0.0").status == "5.0.0"


def test_the_reason_is_one_bounded_line_without_controls() -> None:
    parsed_bounce = report(
        "Final-Recipient: a@x.example",
        "Diagnostic-Code: smtp; 550 a\x1b[2J\x07b\u2028c",
        " folded " + "x" * 900,
    )
    assert parsed_bounce.reason.startswith("550 a [2J b c folded")
    assert len(parsed_bounce.reason) == 300
    assert parsed_bounce.reason.isprintable()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("the mailbox is full", "5.2.2"),
        ("user over quota", "5.2.2"),
        ("message size exceeds fixed limit", "5.3.4"),
        ("Host or domain name not found", "5.1.2"),
        ("no MX record for this domain", "5.1.2"),
        ("too many hops", "5.4.6"),
        ("retry timeout exceeded", "5.4.7"),
        ("Connection refused", "5.4.1"),
        ("this account has been disabled", "5.2.1"),
        ("bad address syntax", "5.1.3"),
        ("User unknown in virtual mailbox table", "5.1.1"),
        ("550 no mailbox here by that name", "5.1.1"),
        ("the recipient does not exist here", "5.1.1"),
        ("Relay access denied", "5.7.1"),
        ("554 rejected as spam", "5.7.1"),
        ("550 no reverse DNS for your address", "5.7.25"),
        ("550 something odd happened", "5.0.0"),
        ("something odd happened at 10.5.1.1", ""),
    ],
)
def test_words_have_a_status(words: str, status: str) -> None:
    assert bounce(f"I could not deliver it:\n\n<a@x.example>:\n{words}\n").status == status


@pytest.mark.parametrize(
    "words",
    [
        "Your message has not yet been delivered. Delivery attempts will continue.",
        "THIS IS A WARNING MESSAGE ONLY. YOU DO NOT NEED TO RESEND YOUR MESSAGE.",
        "could not send message for past 4 hours",
        "Delivery to this address has been delayed; delivery has been delayed.",
        "It will be retried for 2 more days.",
    ],
)
def test_a_delay_is_no_failure(words: str) -> None:
    found = bounce(f"{words}\n\n  a@x.example\n    Connection timed out\n")
    assert (found.action, found.status, found.failed) == ("delayed", "4.4.1", ("a@x.example",))


def test_who_gave_up_does_not_try_again() -> None:
    words = (
        "This is a permanent error.\n\n<a@x.example>:\nRemote host said: 421 4.7.0 temporarily"
        " deferred\n"
    )
    assert bounce(f"{words}I'm not going to try again.\n").action == "failed"


@pytest.mark.parametrize(
    ("notice", "failed"),
    [
        (
            "The following address failed: a@x.example\nFor assistance contact help@mx.example",
            ("a@x.example",),
        ),
        (
            (
                ">>> MAIL From:<us@billing.example>\n>>> RCPT To:<a@x.example>\n<<< 550"
                " <a@x.example>... no"
            ),
            ("a@x.example",),
        ),
        ("<a@x.example>: 550 no\n\n<b@x.example>: 550 no", ("a@x.example", "b@x.example")),
        ("550 unknown user a@x.example\nMessage-ID: <t1@billing.example>", ("a@x.example",)),
        (
            "Could not deliver it.\n\nSender: other@billing.example\nRecipient: a@x.example",
            ("a@x.example",),
        ),
        ("We could not deliver it.", ()),
    ],
)
def test_the_failed_addresses_are_separated_from_others(
    notice: str, failed: tuple[str, ...]
) -> None:
    assert bounce(notice).failed == failed


def test_the_returned_mail_is_not_the_notice() -> None:
    original = (
        "Received: from a\nFrom: us@billing.example\nTo: a@x.example\nSubject: x\n\nAsk"
        " b@x.example: 550 5.9.9 no"
    )
    found = bounce(f"Undeliverable.\n\n{original}")
    assert (found.failed, found.status) == (("a@x.example",), "")


def parse_notice(**members: object) -> Bounce | None:
    inner = json.dumps({"notificationType": "Bounce", "mail": {}} | members)
    return read(
        f"From: no-reply@sns.example\nSubject: x\n\n{inner}\n\n--\nunsubscribe\n".encode()
    ).bounce


def test_a_notice_in_json() -> None:
    people = [{"emailAddress": "A@x.example", "status": "5.1.1"}, {"emailAddress": "b@x.example"}]
    expected = Bounce(action="failed", status="5.1.1", failed=("a@x.example", "b@x.example"))
    bounce_fields = {"bounceType": "Permanent", "bouncedRecipients": people}
    assert parse_notice(bounce=bounce_fields) == expected
    delivery = parse_notice(notificationType="Delivery", delivery={"recipients": ["a@x.example"]})
    assert delivery == Bounce(action="delivered", failed=("a@x.example",))
    notice = json.dumps(
        {
            "Type": "Notification",
            "Message": json.dumps({"notificationType": "Bounce", "bounce": bounce_fields}),
        }
    )
    assert read(f"From: no-reply@sns.example\nSubject: x\n\n{notice}\n".encode()).bounce == expected
    assert parse_notice(notificationType="Complaint", complaint={}) is None


def test_a_person_who_sends_json_is_a_person() -> None:
    assert not read(
        b'From: jane@clinic.example\nSubject: x\n\n{"notificationType":"Bounce"}\n'
    ).is_bounce


def test_what_is_no_bounce_has_none() -> None:
    assert (
        read(
            b"From: jane@clinic.example\nSubject: x\n\n<a@x.example>: 550 5.1.1 user unknown"
        ).bounce
        is None
    )


@pytest.mark.parametrize(
    "filler",
    [
        "Final-Recipient: a@x.example\n" * 8000,
        "Diagnostic-Code: x" + " " * 190_000 + "y\n",
        "Diagnostic-Code: x\n" + " y\n" * 60_000,
        "a@x.example " * 16_000,
        "a" * 190_000 + "@",
        "to: x\n" + " y\n" * 60_000,
        "-" * 190_000,
        "message " * 24_000,
        "the recipient " * 14_000,
        "5.1.1.1." * 24_000,
        "> " * 90_000,
        "{" * 190_000,
        '{"notificationType":"Bounce","bounce":' * 5_000,
    ],
)
def test_a_hostile_bounce_costs_bounded_time(filler: str) -> None:
    start = time.process_time()
    assert isinstance(report(filler), Bounce)
    assert isinstance(bounce(filler), Bounce)
    assert isinstance(
        read(f"From: no-reply@sns.example\nSubject: x\n\n{filler}".encode()), InboundItem
    )
    assert time.process_time() - start < 4


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(WHOLE), st.data())
def test_a_mutated_bounce_is_an_item(raw: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, min(len(raw), start + 60)))
    patch = data.draw(
        st.one_of(
            st.binary(max_size=12),
            st.sampled_from([b"\n\n", b"@", b";", b": ", b"\0", b"<>", b"5.1.1"]),
        )
    )
    started = time.process_time()
    item = read(raw[:start] + patch + raw[end:])
    assert time.process_time() - started < 2
    assert (item.bounce is not None) == item.is_bounce
    if item.bounce is not None:
        assert item.bounce.action in {"failed", "delayed", "delivered", "relayed", "expanded"}
        assert all(
            "@" in address and address == address.casefold() for address in item.bounce.failed
        )
        assert len(item.bounce.reason) <= 300
        assert item.bounce.reason.isprintable()


def test_a_reason_with_an_invisible_character_is_printable() -> None:
    soft = bounce(
        "This is the mail system.\n\n<jane@clinic.example>: user un\u00adknown in virtual mailbox"
        " table\n"
    )
    assert "unknown in virtual" in soft.reason
    assert soft.reason.isprintable()
