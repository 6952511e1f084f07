"""Grammar of SMTP: command lines, addresses, and which addresses are ours."""

import pytest

from ingest.smtp.grammar import (
    MAX_LINE,
    MAX_PATH,
    Recipients,
    find_parameter_error,
    parse_argument,
    parse_command,
    parse_mailbox,
)

OURS = Recipients(["Support@Billing.example", "@desk.example"])


@pytest.mark.parametrize(
    "address",
    [
        "support@billing.example",
        "SUPPORT@BILLING.EXAMPLE",
        "support+ticket.42@billing.example",
        "anyone@desk.example",
        "postmaster",
        "Postmaster@billing.example",
        "postmaster@desk.example",
    ],
)
def test_mail_for_us_is_ours(address: str) -> None:
    assert OURS.find_refusal(address) == ""


@pytest.mark.parametrize(
    ("address", "reply"),
    [
        ("nobody@billing.example", "550 5.1.1"),
        ("supporter@billing.example", "550 5.1.1"),
        ("+support@billing.example", "550 5.1.1"),
        ("support", "550 5.1.1"),
        ("support@billing.example.evil.example", "550 5.7.1"),
        ("support@evil-billing.example", "550 5.7.1"),
        ("postmaster@other.example", "550 5.7.1"),
        ("victim%other.example@desk.example", "550 5.7.1"),
        ("other.example!victim@desk.example", "550 5.7.1"),
        ('"victim@other.example"@desk.example', "550 5.7.1"),
    ],
)
def test_mail_for_others_is_not(address: str, reply: str) -> None:
    assert OURS.find_refusal(address).startswith(reply)


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("FROM:<a@b.example>", "a@b.example", []),
        ("from: <a@b.example> SIZE=9  BODY=8BITMIME", "a@b.example", ["SIZE=9", "BODY=8BITMIME"]),
        ("FROM:<>", "", []),
        ("FROM:a@b.example SIZE=9", "a@b.example", ["SIZE=9"]),
        ('FROM:<"a > b"@c.example> SIZE=9', '"a > b"@c.example', ["SIZE=9"]),
        ("FROM:<a@b.example>SIZE=9", None, []),
        ("FROM:<a@b.example><c@d.example>", None, []),
        ("FROM:<a@b.example", None, []),
        ("FROM:", None, []),
        ("TO:<a@b.example>", None, []),
        ("FROM:" + "<" * 900, None, []),
        ("FROM:<" + '"' * 901 + ">", None, []),
    ],
)
def test_an_argument_is_a_path_and_words(text: str, path: str | None, words: list[str]) -> None:
    assert parse_argument("FROM:", text) == (path, words)


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("a@b.example", "a@b.example"),
        ("a@[127.0.0.1]", "a@[127.0.0.1]"),
        ("a@[IPv6:::1]", "a@[IPv6:::1]"),
        ('"a b"@c.example', '"a b"@c.example'),
        ("@x.example,@y.example:a@b.example", "a@b.example"),
        ("root", "root"),
        ("bounce-17=a=b.example@list.example", "bounce-17=a=b.example@list.example"),
        ("a@b@c", None),
        ("a b@c.example", None),
        ("a@", None),
        ("@b.example", None),
        ("a@[[[", None),
        ("(" * 400 + "a@b", None),
        ("ü@b.example", None),
        ("a" * MAX_PATH + "@b.example", None),
    ],
)
def test_a_mailbox_is_an_address_or_nothing(path: str, address: str | None) -> None:
    assert parse_mailbox(path, utf8=False) == address


def test_an_address_beyond_ascii_needs_smtputf8() -> None:
    assert parse_mailbox("ü@b.example", utf8=True) == "ü@b.example"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], ""),
        (["SIZE=1000", "BODY=8bitmime", "SMTPUTF8"], ""),
        (["size=1001"], "552"),
        (["SIZE=" + "9" * 400], "552"),
        (["SIZE=²"], "501"),
        (["SIZE=-1"], "501"),
        (["SIZE"], "501"),
        (["SIZE=1", "SIZE=2"], "501"),
        (["BODY=BINARYMIME"], "501"),
        (["SMTPUTF8=1"], "501"),
        (["RET=HDRS"], "555"),
    ],
)
def test_parameters_of_mail(words: list[str], code: str) -> None:
    assert find_parameter_error(words, 1000)[:3] == code


@pytest.mark.parametrize(
    ("line", "code", "verb", "rest"),
    [
        (b"NOOP\r\n", "", "NOOP", None),
        (b"mail FROM:<a@b>  \r\n", "", "MAIL", "FROM:<a@b>"),
        ("MAIL FROM:<ü@b>\r\n".encode(), "", "MAIL", "FROM:<ü@b>"),
        (b"NOOP\n", "500", "", None),
        (b"\r\n", "500", "", None),
        (b" NOOP\r\n", "500", "", None),
        ("No\u0131op\r\n".encode(), "500", "", None),
        (b"NOOP \x1b[31m\r\n", "500", "", None),
        (b"NOOP a\rb\r\n", "500", "", None),
        ("NOOP \u2028\r\n".encode(), "500", "", None),
        (b"MAIL FROM:<\xed\xa0\x80@b.example>\r\n", "500", "", None),
        (b"NOOP " + b"x" * MAX_LINE + b"\r\n", "500", "", None),
    ],
)
def test_a_command_is_one_clean_line(line: bytes, code: str, verb: str, rest: str | None) -> None:
    trouble, *parts = parse_command(line)
    assert (trouble[:3], parts) == (code, [verb, rest])
