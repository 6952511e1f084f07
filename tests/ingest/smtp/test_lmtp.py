"""The listener on its LMTP port."""

import pytest

from ingest.intake import Arrival, Transport
from ingest.smtp.listener import Listener
from tests.support.smtp_client import (
    DESK,
    FROM,
    HELLO,
    MAIL,
    TO,
    Client,
    MemoryIntake,
    run_listener,
)

LMTP = Transport.LMTP


def test_lmtp_answers_for_each_recipient_it_accepted(
    listener: Listener, memory_intake: MemoryIntake
) -> None:
    with Client(listener, LMTP) as client:
        assert client.say(HELLO, "HELO a", "LHLO mx", FROM) == ["500", "500", "250", "250"]
        assert (
            client.say(TO, "RCPT TO:<nobody@billing.example>", TO, "RCPT TO:<postmaster>", "DATA")[
                -1
            ]
            == "354"
        )
        client.send(MAIL + b".\r\n")
        replies = [client.reply() for _ in range(3)]
        assert client.say("NOOP") == ["250"]
    arrival = memory_intake.get_next()
    assert replies == [f"250 2.0.0 stored as 1, {arrival.reference}"] * 3
    assert (arrival.transport, arrival.envelope["rcpt_to"]) == (
        Transport.LMTP,
        [DESK, "postmaster"],
    )


@pytest.mark.parametrize("error", [OSError(), KeyError()])
@pytest.mark.parametrize(
    ("mail", "code"), [(MAIL, "451"), (b"bare\n\r\n", "550"), (b"x" * 2000 + b"\r\n", "552")]
)
def test_lmtp_says_no_for_each_recipient(error: Exception, mail: bytes, code: str) -> None:
    def accept(arrival: Arrival) -> int:  # noqa: ARG001
        raise error

    with run_listener(accept, mail_limit=1000) as listener, Client(listener, LMTP) as client:
        client.send_envelope(DESK, DESK, hello="LHLO mx").send(mail + b".\r\nNOOP\r\n")
        assert [client.reply()[:3] for _ in range(3)] == [code, code, "250"]
