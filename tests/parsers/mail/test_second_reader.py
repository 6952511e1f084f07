"""mail-parser as a second opinion: it reads the same of each fixture, but for named exceptions."""

from pathlib import Path

import mailparser
import pytest

from parsers.item import InboundItem
from parsers.mail import message

FIXTURES = sorted(Path(__file__).parents[1].joinpath("fixtures", "mail").glob("*.eml"))
# Where the two differ, and why ours is right.
EXCEPTIONS = {
    # Labelled gb2312, its bytes are of gbk: ours tries the larger set.
    ("charset-gb2312-with-gbk-bytes", "subject"),
    # Ours removes NUL, which no database stores.
    ("header-control-characters", "subject"),
    # A second line that lacks its blank belongs to the field all the same.
    ("header-folded-without-blank", "cc"),
    # Bytes above ASCII without a charset are decoded, not dropped.
    ("header-raw-8bit", "subject"),
    # "not an id" is none: two such mails would be the same.
    ("message-id-malformed", "message_id"),
    # The standard says one; ours takes the first that has an address.
    ("two-from-lines", "from"),
}


def list_our_fields(item: InboundItem) -> dict[str, object]:
    """Return the fields that both readers have, as ours reads them."""
    return {
        "from": [item.sender.email] if item.sender.email else [],
        "to": [person.email for person in item.to if person.email],
        "cc": [person.email for person in item.cc if person.email],
        "subject": item.subject.split(),
        "message_id": item.message_id,
        "sent_at": item.sent_at and item.sent_at.replace(tzinfo=None),
    }


def list_their_fields(mail: mailparser.MailParser) -> dict[str, object]:
    """Return the same fields as mail-parser reads them."""
    return {
        "from": list_emails(mail.from_)[:1],
        "to": list_emails(mail.to),
        "cc": list_emails(mail.cc),
        "subject": (mail.subject or "").split(),
        "message_id": mail.message_id or "",
        "sent_at": mail.date and mail.date.replace(tzinfo=None),
    }


def list_emails(pairs: list[tuple[str, str]]) -> list[str]:
    return [email for _, email in pairs if email]


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_mail_parser_reads_the_same_fields(path: Path) -> None:
    raw = path.read_bytes()
    [item] = message.parse(raw)
    ours, theirs = list_our_fields(item), list_their_fields(mailparser.parse_from_bytes(raw))
    differing = {(path.stem, name) for name in ours if ours[name] != theirs[name]}
    assert differing == {(stem, name) for stem, name in EXCEPTIONS if stem == path.stem}


def test_mail_parser_finds_the_same_bytes_in_files_of_one_name() -> None:
    compared_count = 0
    for path in FIXTURES:
        raw = path.read_bytes()
        [ours], theirs = message.parse(raw), mailparser.parse_from_bytes(raw)
        mine = {file.name: file.content for file in ours.attachments}
        for file in theirs.attachments:
            if file["binary"] and file["filename"] in mine:
                compared_count += 1
                content = mailparser.utils.decode_base64_payload(file["payload"])
                assert mine[file["filename"]] == content, path.stem
    assert compared_count > 10


def test_the_exceptions_are_of_fixtures_that_there_are() -> None:
    assert {stem for stem, _ in EXCEPTIONS} <= {path.stem for path in FIXTURES}
