"""mail-parser as a second opinion: it reads the same of each fixture, but for named exceptions."""

from pathlib import Path

import mailparser
import pytest

from parsers.mail import message

FIXTURES = sorted(Path(__file__).parents[1].joinpath("fixtures", "mail").glob("*.eml"))
# Where the two differ, and why ours is right.
EXCEPTIONS = {
    (
        "charset-gb2312-with-gbk-bytes",
        "subject",
    ),  # labelled gb2312, its bytes are of gbk: ours tries the larger set
    ("header-control-characters", "subject"),  # ours removes NUL, which no database stores
    (
        "header-folded-without-blank",
        "cc",
    ),  # a second line that lacks its blank belongs to the field all the same
    ("header-raw-8bit", "subject"),  # bytes above ASCII without a charset are decoded, not dropped
    ("message-id-malformed", "message_id"),  # "not an id" is none: two such mails would be the same
    ("two-from-lines", "from"),  # the standard says one; ours takes the first that has an address
}


def emails(pairs: list[tuple[str, str]]) -> list[str]:
    return [email for _, email in pairs if email]


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_mail_parser_reads_the_same_fields(path: Path) -> None:
    raw = path.read_bytes()
    [ours], theirs = message.parse(raw), mailparser.parse_from_bytes(raw)
    sent = ours.sent_at and ours.sent_at.replace(tzinfo=None)
    pairs: dict[str, tuple[object, object]] = {
        "from": ([ours.sender.email] if ours.sender.email else [], emails(theirs.from_)[:1]),
        "to": ([person.email for person in ours.to if person.email], emails(theirs.to)),
        "cc": ([person.email for person in ours.cc if person.email], emails(theirs.cc)),
        "subject": (ours.subject.split(), (theirs.subject or "").split()),
        "message_id": (ours.message_id, theirs.message_id or ""),
        "sent_at": (sent, theirs.date and theirs.date.replace(tzinfo=None)),
    }
    differing = {(path.stem, name) for name, (mine, other) in pairs.items() if mine != other}
    assert differing == {(stem, name) for stem, name in EXCEPTIONS if stem == path.stem}


def test_mail_parser_finds_the_same_bytes_in_files_of_one_name() -> None:
    compared = 0
    for path in FIXTURES:
        raw = path.read_bytes()
        [ours], theirs = message.parse(raw), mailparser.parse_from_bytes(raw)
        mine = {file.name: file.content for file in ours.attachments}
        for file in theirs.attachments:
            if file["binary"] and file["filename"] in mine:
                compared += 1
                content = mailparser.utils.decode_base64_payload(file["payload"])
                assert mine[file["filename"]] == content, path.stem
    assert compared > 10


def test_the_exceptions_are_of_fixtures_that_there_are() -> None:
    assert {stem for stem, _ in EXCEPTIONS} <= {path.stem for path in FIXTURES}
