"""Submission of a mail to relays that misbehave, over real sockets.

It is taken, refused or deferred, and always in time.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.bad_relay import END, GREETING, Act, BadRelay, Do
from tests.support.dovecot import _create_certificate
from tests.support.servers import find_free_port
from workflow.mail import transport
from workflow.mail.compose import ASCII_POLICY
from workflow.mail.smtp_client import SmtpConnection, connect_first, resolve
from workflow.mail.transport import EmlFolder, MailDeferred, MailRefused, Relay
from workflow.settings.settings import SettingsError

ANN, BOB, DESK = "ann@practice.example", "bob@practice.example", "desk+bounce-1@billing.example"
POINTS = [GREETING, "EHLO", "MAIL", "RCPT", "DATA", END]
OF_THE_MAIL = ["RCPT", "DATA", END]
SECONDS = 0.25  # what a mail is given where the relay lets it pass
HANGS = 30.0  # seconds: what is not cut by then hangs for ever, on the busiest machine
AMPLE = 20.0


@pytest.fixture(params=[(), ("PIPELINING",)], ids=["one by one", "pipelined"])
def bad(request: pytest.FixtureRequest) -> Iterator[BadRelay]:
    relay = BadRelay(extensions=request.param)
    yield relay
    relay.stop()


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate that this test's clients believe."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    _create_certificate(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def make_message(text: str = "Hello.\n.\nBye.") -> EmailMessage:
    message = EmailMessage(policy=ASCII_POLICY)
    message["From"], message["To"], message["Subject"] = "desk@billing.example", ANN, "Your ticket"
    message["Message-ID"] = "<outbox-1@billing.example>"
    message.set_content(text)
    return message


def open_relay(url: str, seconds: float = AMPLE) -> Any:
    return transport.open_mailer(url, Path("nowhere"), seconds)


def submit(relay: Any, to: str = ANN, sender: str = DESK) -> MailRefused | MailDeferred | None:
    """Submit a mail; return the error, or None when it was taken."""
    try:
        relay.post(make_message(), sender, to)
    except (MailRefused, MailDeferred) as error:
        return error
    return None


def try_once(url: str, *, seconds: float = AMPLE, **more: str) -> MailRefused | MailDeferred | None:
    with open_relay(url, seconds) as relay:
        return submit(relay, **more)


def is_deferred(outcome: object, code: int, *, is_relay_fault: bool) -> bool:
    return isinstance(outcome, MailDeferred) and (outcome.code, outcome.is_relay_fault) == (
        code,
        is_relay_fault,
    )


# -- in time ----


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("how", [Do.HANG, Do.TRICKLE])
def test_a_relay_that_hangs_or_trickles_is_cut_and_asked_for_no_other_mail(
    bad: BadRelay, point: str, how: Do
) -> None:
    bad.at[point] = [how]
    began = time.monotonic()
    with open_relay(bad.url, SECONDS) as relay:
        outcome = submit(relay)
        assert time.monotonic() - began < HANGS
        assert is_deferred(outcome, 0, is_relay_fault=True)
        bad.at.clear()  # a busy machine may have used up the time before this point
        relay._seconds = AMPLE
        assert submit(relay) is None  # a connection of its own
    assert bad.connections == 2
    assert len(bad.taken) == 1


@pytest.mark.parametrize("point", POINTS)
def test_an_answer_that_never_ends_fills_no_memory(bad: BadRelay, point: str) -> None:
    bad.at[point] = [Do.ENDLESS]
    assert is_deferred(try_once(bad.url), 0, is_relay_fault=point in {GREETING, "EHLO"})


def test_the_time_is_for_the_whole_mail_and_not_for_each_answer(bad: BadRelay) -> None:
    answer_slowly(bad, 0.1)  # each of six answers comes in time, all of them do not
    assert is_deferred(try_once(bad.url, seconds=SECONDS), 0, is_relay_fault=True)


def test_each_mail_has_the_whole_time(bad: BadRelay) -> None:
    with open_relay(bad.url) as relay:
        assert submit(relay) is None
        deadlines = [relay._open._deadline]
        act = bad.act

        def note_deadline(point: str) -> Act:
            deadlines.append(connection._deadline)
            return act(point)

        bad.act, connection = note_deadline, relay._open  # type: ignore[method-assign]
        assert submit(relay) is None
    first, second, *others = deadlines
    assert second > first, "the second mail has a deadline of its own"
    assert set(others) == {second}, "and one for all its answers"
    assert bad.connections == 1


def answer_slowly(bad: BadRelay, seconds: float, points: Sequence[str] = POINTS) -> list[float]:
    """Have the relay wait before its answers; return the times of those answers, as they come."""
    act, answered_at = bad.act, list[float]()

    def act_after_a_while(point: str) -> Act:
        if point in points:
            time.sleep(seconds)
            answered_at.append(time.monotonic())
        return act(point)

    bad.act = act_after_a_while  # type: ignore[method-assign]
    return answered_at


def test_a_relay_that_reads_no_further_is_cut(bad: BadRelay) -> None:
    bad.at["DATA"] = [Do.DEAF]
    connection = SmtpConnection("127.0.0.1", bad.port, "billing.example", seconds=AMPLE)
    codes = [connection.ehlo()[0], connection.mail(DESK)[0], connection.rcpt(ANN)[0]]
    assert codes == [250, 250, 250]
    connection.set_deadline(SECONDS)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        connection.data(b"x" * 16_000_000)
    assert time.monotonic() - began < HANGS
    connection.quit_and_close()


def test_a_handshake_that_hangs_is_cut(bad: BadRelay, tls: ssl.SSLContext) -> None:
    assert tls
    bad.at[GREETING] = [Do.HANG]
    began = time.monotonic()
    assert is_deferred(
        try_once(bad.url.replace("smtp:", "smtps:"), seconds=SECONDS), 0, is_relay_fault=True
    )
    assert time.monotonic() - began < HANGS


def test_a_handshake_that_hangs_has_no_more_than_what_is_left(tls: ssl.SSLContext) -> None:
    assert tls
    offering = BadRelay(extensions=("STARTTLS",))
    # greeting, EHLO and STARTTLS are answered; the handshake may look like one more command
    offering.script = [None, None, None, Do.HANG]
    answered_at = answer_slowly(offering, 1.2, points=("STARTTLS",))
    seconds = 1.5
    url = offering.url.replace("smtp:", "smtp+starttls:")
    assert is_deferred(try_once(url, seconds=seconds), 0, is_relay_fault=True)
    # 0.3 s were left; with a limit of its own the handshake would have had 1.5 s
    assert time.monotonic() < answered_at[-1] + 0.8 * seconds
    offering.stop()


def test_a_resolver_that_hangs_is_not_waited_for() -> None:
    answer_event = threading.Event()

    def slowly(*_: Any, **__: Any) -> list[Any]:
        answer_event.wait(2 * HANGS)
        return []

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        resolve("relay.example", 25, 0.1, slowly)
    assert time.monotonic() - began < HANGS
    answer_event.set()


def test_what_the_resolver_cannot_find_is_a_relay_that_is_away() -> None:
    for host in ("nobody.invalid", "x" * 70 + ".example", "ü..example"):
        assert is_deferred(try_once(f"smtp://{host}"), 0, is_relay_fault=True)


def test_one_dead_address_of_several_does_not_hold_up_the_mail(bad: BadRelay) -> None:
    # nobody accepts, and there is no room to wait: a connect gets no answer
    with closing(socket.socket()) as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        ports = [full.getsockname()[1], find_free_port(), bad.port]
        infos = [
            info
            for port in ports
            for info in socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)
        ]
        deadline = time.monotonic() + 3

        def seconds_left() -> float:
            left = deadline - time.monotonic()
            assert left > 0, "the dead address took the time of the others"
            return left

        with connect_first(infos, seconds_left) as sock:
            assert sock.getpeername()[1] == bad.port
        with pytest.raises(OSError, match="refused"):
            connect_first(infos[1:2], lambda: AMPLE)
        for client in waiting:
            client.close()


# -- what an answer means ----

NONSENSE = [
    b"\r\n",
    b"hello\r\n",
    b"\x00\xff\xfe\x80\r\n",
    b"x" * 9000 + b"\r\n",
    b"250" + b"x" * 70_000,
    b"600 x\r\n",
    b"-1 x\r\n",
    b"000 x\r\n",
    b"25 0\r\n",
    b"250ok\r\n",
    b"+25 ok\r\n",
    b"2_5 ok\r\n",
    b"5500 x\r\n",
    b"100 x\r\n",
    b"250-a\r\n550 b\r\n",
    b"\xef\xbc\x92\xef\xbc\x95\xef\xbc\x90 ok\r\n",
]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda n: repr(n[:12]))
@pytest.mark.parametrize("point", POINTS)
def test_nonsense_is_no_answer(bad: BadRelay, point: str, nonsense: bytes) -> None:
    bad.at[point] = [nonsense]
    with open_relay(bad.url) as relay:
        assert is_deferred(submit(relay), 0, is_relay_fault=point in {GREETING, "EHLO"})
        assert submit(relay) is None
    assert len(bad.taken) == 1


@pytest.mark.parametrize("how", [Do.HANG_UP, Do.RESET])
@pytest.mark.parametrize("point", POINTS)
def test_a_relay_that_hangs_up_is_tried_again(bad: BadRelay, point: str, how: Do) -> None:
    bad.at[point] = [how]
    with open_relay(bad.url) as relay:
        assert is_deferred(submit(relay), 0, is_relay_fault=point in {GREETING, "EHLO"})
        assert submit(relay) is None


@pytest.mark.parametrize("code", [421, 450, 451, 452, 499])
@pytest.mark.parametrize("point", [GREETING, "MAIL", *OF_THE_MAIL])
def test_what_passes_is_waited_out(bad: BadRelay, point: str, code: int) -> None:
    bad.at[point] = [b"%d 4.3.0 later\r\n" % code]
    with open_relay(bad.url) as relay:
        assert is_deferred(submit(relay), code, is_relay_fault=point == GREETING)
        assert submit(relay) is None


@pytest.mark.parametrize("code", [501, 550, 551, 552, 553, 554, 555, 599])
@pytest.mark.parametrize("point", OF_THE_MAIL)
def test_a_no_to_the_recipient_or_the_mail_is_final(bad: BadRelay, point: str, code: int) -> None:
    bad.at[point] = [b"%d-5.1.1 no\r\n%d 5.1.1 such user\r\n" % (code, code)]
    with open_relay(bad.url) as relay:
        outcome = submit(relay)
        assert isinstance(outcome, MailRefused)
        assert outcome.code == code
        assert submit(relay, to=BOB) is None
    assert [to for to, _ in bad.taken] == [BOB]


@pytest.mark.parametrize("code", [500, 502, 503, 504, 521, 530, 538])
@pytest.mark.parametrize("point", OF_THE_MAIL)
def test_a_no_to_us_says_nothing_of_the_recipient(bad: BadRelay, point: str, code: int) -> None:
    bad.at[point] = [b"%d 5.7.0 not so\r\n" % code]
    assert is_deferred(try_once(bad.url), code, is_relay_fault=False)


@pytest.mark.parametrize("code", [500, 530, 550, 554])
def test_a_no_before_there_is_a_recipient_is_a_relay_set_up_wrongly(
    bad: BadRelay, code: int
) -> None:
    no = b"%d 5.7.1 not you\r\n" % code
    bad.at[GREETING], bad.at["MAIL"] = [no], [no]
    assert is_deferred(try_once(bad.url), code, is_relay_fault=True)
    assert is_deferred(try_once(bad.url), code, is_relay_fault=False)
    bad.at["EHLO"], bad.at["HELO"] = [no], [no]
    assert is_deferred(try_once(bad.url), code, is_relay_fault=True)


def test_a_relay_that_knows_no_ehlo_still_gets_the_mail(bad: BadRelay) -> None:
    bad.at["EHLO"] = [b"502 what?\r\n"]
    assert try_once(bad.url) is None


@pytest.mark.parametrize("code", [250, 251, 252, 200, 299])
def test_any_yes_is_a_yes_because_the_first_digit_decides(bad: BadRelay, code: int) -> None:
    yes = b"%d yes\r\n" % code
    for point in ("MAIL", "RCPT", END):
        bad.at[point] = [yes]
    assert try_once(bad.url) is None
    assert len(bad.taken) == 1


@pytest.mark.parametrize(
    ("point", "reply"), [("DATA", 250), ("RCPT", 354), ("MAIL", 334), (END, 354)]
)
def test_the_right_word_at_the_wrong_place_is_not_a_yes(
    bad: BadRelay, point: str, reply: int
) -> None:
    bad.at[point] = [b"%d well\r\n" % reply]
    assert is_deferred(try_once(bad.url), reply, is_relay_fault=False)
    assert not bad.taken


@pytest.mark.parametrize("point", [GREETING, "EHLO", "MAIL", "RCPT", "DATA"])
def test_an_answer_to_a_question_not_asked_is_not_taken_for_the_next_one(
    bad: BadRelay, point: str
) -> None:
    first = {GREETING: b"220 x\r\n", "DATA": b"354 go on\r\n"}.get(point, b"250 x\r\n")
    bad.at[point], bad.at[END] = [first + b"250 taken\r\n"], [b"554 no\r\n"]
    # Where all three commands are sent at once, the last reply is not the one to DATA.
    is_shifted = bad.is_pipelining and point in {"MAIL", "RCPT"}
    code = 250 if is_shifted else 0
    assert is_deferred(try_once(bad.url), code, is_relay_fault=point == GREETING)
    assert not bad.taken


@pytest.mark.parametrize("point", ["MAIL", "RCPT"])
def test_a_relay_that_goes_on_after_a_refusal_gets_no_content(point: str) -> None:
    relay = BadRelay(extensions=("PIPELINING",))
    try:
        relay.at[point] = [b"550 no\r\n"]
        with open_relay(relay.url) as posting:
            assert submit(posting) is not None
            assert not relay.taken
            assert submit(posting) is None
        assert len(relay.taken) == 1
    finally:
        relay.stop()


def test_a_bare_code_and_a_bare_newline_are_an_answer(bad: BadRelay) -> None:
    bad.at["MAIL"], bad.at["RCPT"], bad.at[END] = (
        [b"250\r\n"],
        [b"250-x\n250\n"],
        [b"250 \xff\xfe\r\n"],
    )
    assert try_once(bad.url) is None


def test_what_the_relay_takes_is_the_mail_in_plain_ascii(bad: BadRelay) -> None:
    message = make_message("grüße\n.\n..two\nend")
    with open_relay(bad.url) as relay:
        relay.post(message, DESK, ANN)
    (to, content) = bad.taken[0]
    assert (to, content.isascii()) == (ANN, True)
    assert content.endswith(b"\r\n.\r\n")
    assert content.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.") == message.as_bytes()
    assert b"8bit" not in content


# -- connections ----


def test_mails_share_a_connection_until_one_is_not_taken(bad: BadRelay) -> None:
    bad.at["RCPT"] = [None, None, b"550 no\r\n", None, None]
    with open_relay(bad.url) as relay:
        outcomes = [submit(relay) for _ in range(5)]
    assert [o is None for o in outcomes] == [True, True, False, True, True]
    assert (len(bad.taken), bad.connections) == (4, 2)


@pytest.mark.parametrize("parting", [b"250 OK\r\n421 4.4.2 you have been idle\r\n", b"250 OK\r\n"])
def test_a_relay_that_hung_up_between_two_mails_costs_nothing(
    bad: BadRelay, parting: bytes
) -> None:
    bad.at[END] = [parting]
    with open_relay(bad.url) as relay:
        assert submit(relay) is None
        relay._open.sock.shutdown(socket.SHUT_RD)  # as if it had closed: the end of what it says
        assert submit(relay) is None
    assert (len(bad.taken), bad.connections) == (2, 2)


# -- addresses beyond ASCII ----


def test_an_address_beyond_ascii_goes_to_relays_that_take_one() -> None:
    able = BadRelay(extensions=("SMTPUTF8", "8BITMIME"))
    assert try_once(able.url, to="jörg@practice.example") is None
    assert able.taken[0][0] == "jörg@practice.example"
    able.stop()


def test_a_relay_that_takes_no_such_address_refuses_that_mail_and_no_other(bad: BadRelay) -> None:
    with open_relay(bad.url) as relay:
        outcome = submit(relay, to="jörg@practice.example")
        assert isinstance(outcome, MailRefused)
        assert outcome.code == 553
        assert submit(relay) is None
    assert is_deferred(
        try_once(bad.url, sender="büro@billing.example"), 553, is_relay_fault=False
    )  # ours, not the customer's


# -- TLS and login ----


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
def test_over_tls_with_a_login(tls: ssl.SSLContext, scheme: str) -> None:
    extensions = ("AUTH PLAIN LOGIN", *(["STARTTLS"] if "starttls" in scheme else []))
    able = BadRelay(extensions=extensions, tls=tls)
    url = f"{scheme}://desk:p%40ss@127.0.0.1:{able.port}"
    with open_relay(url) as relay:
        assert [submit(relay), submit(relay, to=BOB)] == [None, None]
    assert able.connections == 1
    able.at["RCPT"] = [Do.TRICKLE]
    assert is_deferred(try_once(url, seconds=SECONDS), 0, is_relay_fault=True)
    able.at["RCPT"] = [b"250 x\r\n250 y\r\n"]
    assert is_deferred(try_once(url), 0, is_relay_fault=False)
    able.stop()


@pytest.mark.parametrize(
    "refusal", [b"454 not now\r\n", b"501 never\r\n", b"220 go on\r\n250 injected\r\n", Do.HANG_UP]
)
def test_without_the_tls_that_is_asked_for_nothing_is_said(
    tls: ssl.SSLContext, refusal: Act
) -> None:
    offering = BadRelay(extensions=("STARTTLS", "AUTH PLAIN"), tls=tls)
    offering.at["STARTTLS"] = [refusal]
    url = f"smtp+starttls://desk:pass@127.0.0.1:{offering.port}"
    code = int(refusal[:3]) if isinstance(refusal, bytes) and refusal[:1] in b"45" else 0
    assert is_deferred(try_once(url), code, is_relay_fault=True)
    offering.stop()


def test_a_relay_that_offers_neither_tls_nor_login_refuses_no_customer(
    bad: BadRelay, tls: ssl.SSLContext
) -> None:
    assert tls
    assert is_deferred(try_once(bad.url.replace("smtp:", "smtp+starttls:")), 0, is_relay_fault=True)
    assert is_deferred(try_once(bad.url.replace("//", "//desk:pass@")), 0, is_relay_fault=True)
    assert not bad.offered


def test_a_certificate_nobody_vouches_for_is_not_believed(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    able = BadRelay(tls=tls)
    monkeypatch.delenv("SSL_CERT_FILE")
    assert is_deferred(try_once(able.url.replace("smtp:", "smtps:")), 0, is_relay_fault=True)
    able.stop()


@pytest.mark.parametrize(
    "reply",
    [b"535 5.7.8 wrong\r\n", b"454 4.7.0 later\r\n", b"334 !!!\r\n", b"334 =\r\n", b"nonsense\r\n"],
)
@pytest.mark.parametrize("way", ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"])
def test_a_login_that_fails_is_ours_and_not_the_customers(reply: bytes, way: str) -> None:
    able = BadRelay(extensions=(f"AUTH {way}",))
    able.at["AUTH"] = [reply]
    able.at[""] = able.at["ZGVZAW=="] = [b"535 no\r\n"]
    outcome = try_once(able.url.replace("//", "//desk:pass@"))
    assert outcome is None or (isinstance(outcome, MailDeferred) and outcome.is_relay_fault)
    assert (outcome is None) == bool(able.taken)
    able.stop()


def test_a_password_that_cannot_be_said_is_ours_too() -> None:
    able = BadRelay(extensions=("AUTH PLAIN",))
    assert is_deferred(try_once(able.url.replace("//", "//desk:p%C3%BC@")), 0, is_relay_fault=True)
    able.stop()


# -- whatever it does ----

ACTS: st.SearchStrategy[Act] = st.one_of(
    st.none(),
    st.none(),
    st.sampled_from(list(Do)),
    st.integers(0, 999).map(lambda code: b"%03d x\r\n" % code),
    st.sampled_from([250, 354, 421, 450, 550, 554]).map(lambda code: b"%d x\r\n" % code),
    st.binary(max_size=40).map(lambda octets: octets + b"\r\n"),
    st.sampled_from(NONSENSE),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(script=st.lists(ACTS, max_size=14), extensions=st.sampled_from([(), ("PIPELINING",)]))
def test_whatever_a_relay_does_a_mail_is_taken_refused_or_deferred_in_time(
    script: list[Act], extensions: tuple[str, ...]
) -> None:
    relay = BadRelay(extensions=extensions)
    relay.script = list(script)
    codes = {int(act[:3]) for act in script if isinstance(act, bytes) and act[:3].isdigit()}
    try:
        with open_relay(relay.url, 0.05) as posting:
            for _ in range(2):
                before, began = len(relay.taken), time.monotonic()
                outcome = submit(posting)
                assert time.monotonic() - began < HANGS
                if outcome is None:
                    _wait_until(lambda n=before: len(relay.taken) == n + 1)
                elif isinstance(outcome, MailRefused):
                    assert outcome.code in codes
    finally:
        relay.stop()


def _wait_until(holds: Callable[[], bool]) -> None:
    latest = time.monotonic() + HANGS
    while not holds():
        assert time.monotonic() < latest, "reported as accepted, but not received"
        time.sleep(0.001)


# -- where mail goes ----


@pytest.mark.parametrize(
    "url",
    [
        "relay.example",
        "http://x",
        "smtp://",
        "smtp://x:99999",
        "smtp://x:y",
        "smtp://[::1",
        "smtp://x:0",
    ],
)
def test_a_relay_that_cannot_be_meant_is_a_fault_of_the_settings(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="INTAKE_RELAY_URL"):
        transport.open_mailer(url, tmp_path)


def test_the_default_time_is_within_a_minute(tmp_path: Path) -> None:
    made = transport.open_mailer("smtp://relay.example", tmp_path)
    assert isinstance(made, Relay)
    assert made._seconds <= 55
    assert isinstance(transport.open_mailer("", tmp_path), EmlFolder)


def test_a_file_is_whole_or_not_there_and_a_full_folder_is_waited_out(tmp_path: Path) -> None:
    with EmlFolder(tmp_path / "outbox") as folder:
        for _ in range(2):
            folder.post(make_message(), DESK, ANN)
        assert [p.name for p in (tmp_path / "outbox").iterdir()] == ["outbox-1.eml"]
        assert (tmp_path / "outbox" / "outbox-1.eml").read_bytes() == make_message().as_bytes()
    (tmp_path / "file").write_text("no folder")
    assert is_deferred(submit(EmlFolder(tmp_path / "file")), 0, is_relay_fault=True)
