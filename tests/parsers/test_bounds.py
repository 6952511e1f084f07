"""Limits: a mail in which anything is repeated a million times is parsed within five seconds."""

import time

import pytest

from parsers.mail import message

SIZE = 1_000_000
LARGER = {
    "flowed quotes": 3,
    "flowed text": 3,
    "parts without delimiters": 16,
    "closing delimiters": 24,
    "lines like delimiters": 24,
    "headers of parts in a text": 24,
}  # what costs little shows what grows with its square only when it is large
HEAD = b"From: a@b.example\nSubject: x\nMIME-Version: 1.0\n"
HTML = HEAD + b"Content-Type: text/html\n\n"
MIXED = HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n"
FLOWED = HEAD + b"Content-Type: text/plain; format=flowed\n\n"
REPORT = HEAD + b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n"
LOST = b"content-type: text/plain\ncontent-transfer-encoding: base64\n\nQUJD\n"
STATUS = b"Content-Type: message/delivery-status\n\n"
NESTED = b"".join(
    b"--b%d\nContent-Type: multipart/mixed; boundary=b%d\n\n" % (n, n + 1) for n in range(15_000)
)

# Name of a case -> the beginning of its mail, and the piece that is repeated behind it.
CASES = {
    "quotes": (HEAD + b"\n", b"> " * 40 + b"a\n"),
    "announcements": (HEAD + b"\n", b"On Mon, 1 Jan 2024 at 10:00, x <x@y.z> wrote:\n> a\n"),
    "one long announcement": (HEAD + b"\n", b"On Mon wrote "),
    "header blocks": (HEAD + b"\n", b"From: <a@b>\nSent: x\nTo: y\nSubject: z\n"),
    "signatures": (HEAD + b"\n", b"-- \n"),
    "blanks": (HEAD + b"\n", b" "),
    "line ends": (HEAD + b"\n", b"\n"),
    "one word": (HEAD + b"\n", b"a"),
    "bytes of no charset": (HEAD + b"\n", b"\x81\x82\xff\xfe"),
    "uuencoded files": (HEAD + b"\n", b"begin 644 a\n#86)C\n`\nend\n"),
    "uuencoded files never closed": (HEAD + b"\n", b"begin 644 a\n"),
    "flowed quotes": (FLOWED, b"> a \n"),
    "flowed text": (FLOWED, b"a \n"),
    "escapes of ISO-2022-JP": (
        HEAD + b"Content-Type: text/plain; charset=iso-2022-jp\n\n",
        b"\x1b$B",
    ),
    "base64 that is none": (HEAD + b"Content-Transfer-Encoding: base64\n\n", b"!@#$%^&*()\n"),
    "base64 with blanks": (HEAD + b"Content-Transfer-Encoding: base64\n\n", b"Y Q = = "),
    "quoted-printable that is none": (
        HEAD + b"Content-Transfer-Encoding: quoted-printable\n\n",
        b"=",
    ),
    "open elements": (HTML, b"<div>"),
    "nested tables": (HTML, b"<table><tr><td>"),
    "nested quotes in HTML": (HTML, b"<blockquote>a"),
    "attributes": (HTML + b"<p ", b'a="b" '),
    "open tags": (HTML, b"<"),
    "open comments": (HTML, b"<!--"),
    "entities": (HTML, b"&amp;"),
    "parts": (MIXED, b"--b\n\nx\n"),
    "parts without delimiters": (MIXED + b"--b\n\n", b"x\n" + LOST),
    "closing delimiters": (MIXED, b"--b--\nxyz\n"),
    "lines like delimiters": (MIXED, b"--bx\n"),
    "headers of parts in a text": (MIXED + b"--b\n\n", b"content-type: a\n"),
    "multiparts without delimiters": (
        MIXED,
        b"--b\nContent-Type: multipart/mixed; boundary=z\n\nx\n",
    ),
    "multiparts in multiparts without delimiters": (HEAD, b"Content-Type: multipart/mixed\n\n"),
    "answers on announcements": (HEAD + b"\n", b"Yes. On 1.1.2025 10:00 a@b.c wrote:\n"),
    "one long answer on an announcement": (HEAD + b"\n", b"Yes. On 1.1.2025 10:00 a@b.c wrote: "),
    "short base64 before words": (HEAD + b"Content-Transfer-Encoding: base64\n\n", b"QUJD\n"),
    "words behind base64": (
        HEAD + b"Content-Transfer-Encoding: base64\n\n",
        b"QUJD\nthese are words\n",
    ),
    "names with commas": (b"To: ", b"Doe, Jane <jane@clinic.example>, "),
    "named parts": (MIXED, b"--b\nContent-Type: image/png; name=a.png\n\nx\n"),
    "nested parts": (HEAD + b"Content-Type: multipart/mixed; boundary=b0\n\n" + NESTED, b""),
    "nested messages": (
        HEAD + b"Content-Type: message/rfc822\n\n",
        b"Content-Type: message/rfc822\n\n",
    ),
    "encoded words": (b"From: a@b.example\nSubject: ", b"=?utf-8?q?a?= "),
    "folded encoded words": (b"From: a@b.example\nSubject: x", b"\n =?utf-8?b?YQ==?="),
    "header fields": (b"From: a@b.example\n", b"X: y\n"),
    "senders": (b"From: ", b'"a" <a@b.example>, '),
    "comments in a sender": (b"From: ", b"("),
    "quotes in a sender": (b"From: ", b'"\\'),
    "references": (b"From: a@b.example\nReferences: ", b"<a@b.example> "),
    "parameters": (b"From: a@b.example\nContent-Type: text/plain; ", b"a=b; "),
    "recipients of a report": (
        REPORT + STATUS,
        b"Final-Recipient: rfc822; a@b.example\nAction: failed\n\n",
    ),
    "words of a bounce": (
        b"From: MAILER-DAEMON@x.example\nSubject: failure\n\n",
        b"<a@b.example>: user unknown 550\n",
    ),
    "empty attributes of winmail.dat": (
        HEAD + b"Content-Type: application/ms-tnef; name=winmail.dat\n\n\x78\x9f\x3e\x22\x01\x00",
        b"\x01" + bytes(10),
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_reading_ends(what: str) -> None:
    first, repeated = CASES[what]
    size = SIZE * LARGER.get(what, 1)
    raw = first + (repeated * (size // len(repeated) + 1) if repeated else b"") + b"\n\nend\n"
    started = time.process_time()
    [item] = message.parse(raw)
    assert time.process_time() - started < 5
    assert item.text or item.attachments or item.caveats
