"""Mails and recipients that are refused for good are counted."""

import smtplib

import pytest

from ingest.intake import Arrival
from ingest.smtp.listener import run_in_thread
from workflow.settings.settings import Settings


@pytest.mark.parametrize(
    ("commands", "codes"),
    [
        (["MAIL FROM:<a@b.example>", "RCPT TO:<nobody@desk.example>"], ["550 5.1.1"]),
        (["MAIL FROM:<a@b.example>", "RCPT TO:<x@else.example>"], ["550 5.7.1"]),
        (["MAIL FROM:<a@b.example> SIZE=99999999999"], ["552 5.3.4"]),
        (["MAIL FROM:<a@b.example>", "RCPT TO:<support@desk.example>"], []),
    ],
)
def test_each_refusal_is_counted_once(commands: list[str], codes: list[str]) -> None:
    counted: list[tuple[str, str]] = []

    def accept(_: Arrival) -> int:
        return 1

    settings = Settings(smtp_listen="127.0.0.1:0", addresses=("support@desk.example",))
    with run_in_thread(
        settings, accept, count_refusal=lambda *refused: counted.append(refused)
    ) as listener:
        [(transport, port)] = listener.ports.items()
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.ehlo("client")
            for command in commands:
                client.docmd(command)
    assert [(name, " ".join(reply.split()[:2])) for name, reply in counted] == [
        (transport, code) for code in codes
    ]
