"""Files that a form links to, over real HTTPS.

Each is fetched once where the settings allow it, within limits, never from the inner network.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import select, update

from console.presenters.operations import present_status
from console.web import metrics
from ingest.intake import Arrival, Intake, Transport
from ingest.linked_files import fetch as linked_files_fetch
from ingest.linked_files.download import DownloadedFile, DownloadError, DownloadLimits, fetch
from ingest.linked_files.fetch import fetch_due_files
from ingest.processing.process import process_waiting
from ingest.replay.reprocess import apply_replay, preview_replay
from parsers.item import Format
from tests.support.context import HandClock, RecordingNotifier, count_rows, list_audit_entries
from tests.support.file_server import FileServer, answer_slowly, answer_with, answer_with_status
from tests.support.signed_in_client import sign_in_at_desk
from workflow.context import AppContext, open_context
from workflow.filing.linked_files import (
    BACKOFF,
    MAX_ATTEMPTS,
    NOT_FETCHED_CAVEAT,
    LinkedFile,
    is_allowed,
)
from workflow.models.core import Message, StoredAttachment, Ticket
from workflow.models.states import LinkState, Role
from workflow.operations.sweep import sweep
from workflow.runtime.http_client import is_public
from workflow.settings.settings import Settings

PDF = b"%PDF-1.7 " + b"x" * 100
NAMED = {
    "Content_Type": "application/pdf",
    "Content_Disposition": "attachment; filename*=UTF-8''EOB%20M%C3%A4rz.pdf",
}


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    server = FileServer(tmp_path_factory.mktemp("tls"))
    yield server
    server.stop()


@pytest.fixture
def files(_server: FileServer) -> FileServer:
    _server.answers.clear()
    _server.asked.clear()
    return _server


@pytest.fixture
def settings(tmp_path: Path, files: FileServer) -> Settings:
    return Settings(
        home=tmp_path / "home", file_hosts=(files.place,), file_limit=1000, file_seconds=5
    )


def process_form(context: AppContext, *urls: str, unique: str = "1", form: str = "77") -> None:
    """A form with an upload field, stored and read."""
    body = {
        "FormID": form,
        "UniqueID": unique,
        "Upload": {"value": list(urls), "type": "file"},
        "Practice": "Sunrise",
    }
    Intake(context).accept(
        Arrival(
            transport=Transport.FORMSTACK, format=Format.FORMSTACK, raw=json.dumps(body).encode()
        )
    )
    process_waiting(context)


def list_links(context: AppContext) -> list[LinkedFile]:
    with context.store.read_only() as session:
        return list(session.scalars(select(LinkedFile).order_by(LinkedFile.id)))


def get_caveats(context: AppContext) -> list[str]:
    with context.store.read_only() as session:
        return session.get_one(Ticket, 1).caveats


def test_a_linked_file_becomes_an_attachment_of_its_message_once(
    any_context: AppContext, files: FileServer, notified_queues: RecordingNotifier
) -> None:
    files.answers["/file/1"] = answer_with(PDF, **NAMED)
    process_form(any_context, f"{files.url}/file/1", f"{files.url}/file/1")
    assert "fetch" in notified_queues
    assert fetch_due_files(any_context, files.trusting) == 1
    assert fetch_due_files(any_context, files.trusting) == 0
    process_form(any_context, f"{files.url}/file/1", f"{files.url}/file/1")
    assert fetch_due_files(any_context, files.trusting) == 0
    assert files.asked == [("/file/1", files.place)]
    with any_context.store.read_only() as session:
        (attachment,) = session.scalars(select(StoredAttachment))
    assert (attachment.name, attachment.mime, attachment.size, attachment.message_id) == (
        "EOB März.pdf",
        "application/pdf",
        len(PDF),
        1,
    )
    assert any_context.blob_store.read(attachment.content, attachment.blob) == PDF
    assert b"PDF" not in (attachment.content or b"")
    assert NOT_FETCHED_CAVEAT not in get_caveats(any_context)
    assert list_audit_entries(any_context, 1, "file fetched")


def test_reading_the_form_again_leaves_the_fetched_file(
    context: AppContext, files: FileServer
) -> None:
    files.answers["/a.pdf"] = answer_with(PDF)
    process_form(context, f"{files.url}/a.pdf")
    fetch_due_files(context, files.trusting)
    with context.store.transaction() as session:
        session.execute(update(Message).values(text=""))
    shown = preview_replay(context, 1)
    assert [one.name for finding in shown.findings for one in finding.fields] == ["text"]
    apply_replay(context, shown, by="dana")
    assert count_rows(context, StoredAttachment) == 1


def test_nothing_is_fetched_from_where_the_settings_do_not_allow_it(
    context: AppContext, files: FileServer, notified_queues: RecordingNotifier, clock: HandClock
) -> None:
    off = context.settings.model_copy(update={"file_hosts": ()})
    quiet = open_context(
        off.model_copy(update={"database_url": context.settings.database_url}),
        notifier=notified_queues,
        clock=clock,
    )
    process_form(quiet, f"{files.url}/a.pdf")
    assert "fetch" not in notified_queues
    assert list_links(quiet) == []
    with quiet.store.read_only() as session:
        assert f"{files.url}/a.pdf" in session.get_one(Ticket, 1).messages[0].text
    quiet.close()


def test_a_form_may_have_hosts_of_its_own(
    context: AppContext, files: FileServer, clock: HandClock, notified_queues: RecordingNotifier
) -> None:
    custom = Settings.model_validate(
        {
            **context.settings.model_dump(),
            "file_hosts": (),
            "form": {"77": {"file_hosts": files.place}},
        }
    )
    own = open_context(custom, notifier=notified_queues, clock=clock)
    files.answers["/a.pdf"] = answer_with(PDF)
    process_form(own, f"{files.url}/a.pdf", form="78")
    process_form(own, f"{files.url}/a.pdf", form="77")
    assert fetch_due_files(own, files.trusting) == 1
    assert count_rows(own, StoredAttachment, StoredAttachment.message_id == 2) == 1
    own.close()


def test_a_host_taken_from_the_list_meanwhile_is_not_asked(
    context: AppContext, files: FileServer
) -> None:
    process_form(context, f"{files.url}/a.pdf")
    with context.store.transaction() as session:
        session.execute(update(LinkedFile).values(url="https://other.example/a.pdf"))
    fetch_due_files(context, files.trusting)
    assert files.asked == []
    assert list_links(context)[0].state is LinkState.FAILED


def test_a_file_that_cannot_be_had_is_tried_again_for_hours_then_its_ticket_says_so(
    context: AppContext, files: FileServer, clock: HandClock
) -> None:
    files.answers["/a.pdf"] = answer_with_status(503)
    process_form(context, f"{files.url}/a.pdf")
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert NOT_FETCHED_CAVEAT not in get_caveats(context)
        assert fetch_due_files(context, files.trusting) == 1
        clock.turn(seconds=BACKOFF.seconds(attempt) - 1)
        assert fetch_due_files(context, files.trusting) == 0
        clock.turn(seconds=1)
    assert get_caveats(context).count(NOT_FETCHED_CAVEAT) == 1
    assert len(files.asked) == MAX_ATTEMPTS
    assert (list_links(context)[0].state, list_links(context)[0].reason) == (
        LinkState.FAILED,
        "the server answered 503",
    )
    assert fetch_due_files(context, files.trusting) == 0


def test_a_file_that_comes_at_the_second_try_is_kept(
    context: AppContext, files: FileServer, clock: HandClock
) -> None:
    process_form(context, f"{files.url}/a.pdf")
    files.answers["/a.pdf"] = answer_with_status(429)
    fetch_due_files(context, files.trusting)
    files.answers["/a.pdf"] = answer_with(PDF)
    clock.turn(minutes=1)
    fetch_due_files(context, files.trusting)
    assert [(one.state, one.reason) for one in list_links(context)] == [(LinkState.FETCHED, "")]


def test_a_worker_that_dies_each_time_does_not_try_for_ever(
    context: AppContext, files: FileServer, clock: HandClock
) -> None:
    process_form(context, f"{files.url}/a.pdf")
    for _ in range(MAX_ATTEMPTS):
        assert len(linked_files_fetch._claim(context)) == 1
        clock.turn(minutes=2)
    assert fetch_due_files(context, files.trusting) == 1
    assert files.asked == []
    assert NOT_FETCHED_CAVEAT in get_caveats(context)


def test_two_workers_with_one_file_keep_it_once(
    any_context: AppContext, files: FileServer, clock: HandClock
) -> None:
    files.answers["/a.pdf"] = answer_with(PDF)
    process_form(any_context, f"{files.url}/a.pdf")
    (slow,) = linked_files_fetch._claim(any_context)
    clock.turn(minutes=2)
    assert fetch_due_files(any_context, files.trusting) == 1
    linked_files_fetch._keep(any_context, slow, DownloadedFile("b.pdf", "application/pdf", PDF))
    linked_files_fetch._schedule_or_give_up(
        any_context, slow, DownloadError("late", is_permanent=True)
    )
    assert count_rows(any_context, StoredAttachment) == 1
    assert NOT_FETCHED_CAVEAT not in get_caveats(any_context)


def test_the_clock_fetches_when_no_worker_does(
    context: AppContext, files: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linked_files_fetch, "get_public_tls", lambda: files.trusting)
    files.answers["/a.pdf"] = answer_with(PDF)
    process_form(context, f"{files.url}/a.pdf")
    sweep(context, redis_away=lambda: True)
    assert count_rows(context, StoredAttachment) == 1


def test_the_desk_sees_how_many_wait_or_cannot_be_had(
    any_context: AppContext, files: FileServer, clock: HandClock
) -> None:
    desk = sign_in_at_desk(any_context, Role.AUDITOR)
    assert "Linked files</h2>" not in desk.get("/operations").text
    process_form(
        any_context,
        *(f"{files.url}/{name}" for name in ("good.pdf", "page?key=geheim", "later.pdf")),
    )
    files.answers.update({"/good.pdf": answer_with(PDF), "/later.pdf": answer_with_status(503)})
    files.answers["/page?key=geheim"] = answer_with(
        b"<!doctype html><p>Sign in</p>", Content_Type="text/html"
    )
    while fetch_due_files(any_context, files.trusting):
        pass
    clock.turn(seconds=20)
    backlog = present_status(any_context)["backlog"]
    assert (backlog["files_waiting"], backlog["files_failed"]) == (1, 1)
    lines = metrics.render_metrics(any_context).decode().splitlines()
    assert 'intake_linked_files{state="waiting"} 1.0' in lines
    assert 'intake_linked_files{state="failed"} 1.0' in lines
    assert "intake_oldest_waiting_linked_file_seconds 20.0" in lines
    page = desk.get("/operations").text
    assert "<dt>Linked files waiting</dt><dd>1, and 1 could not be fetched</dd>" in page
    table = page.partition("Linked files</h2>")[2].partition("</table>")[0]
    assert [
        words in table for words in ("it is a page and not a file", "given up", "503", "good")
    ] == [
        True,
        True,
        True,
        False,
    ]
    assert "geheim" not in page


def test_one_that_could_not_be_had_is_fetched_again_once_its_place_is_corrected(
    any_context: AppContext, files: FileServer, clock: HandClock
) -> None:
    files.answers.update({"/a.pdf": answer_with_status(404), "/b.pdf": answer_with_status(404)})
    process_form(any_context, f"{files.url}/a.pdf", f"{files.url}/b.pdf")
    fetch_due_files(any_context, files.trusting)
    assert get_caveats(any_context).count(NOT_FETCHED_CAVEAT) == 1
    assert sign_in_at_desk(any_context).post("/operations/files/1/again").status_code == 403
    lead = sign_in_at_desk(any_context, Role.LEAD)
    assert lead.get("/operations").text.count("Fetch again<span") == 2
    for number, caveat_count in ((1, 1), (2, 0)):
        files.answers[f"/{'ab'[number - 1]}.pdf"] = answer_with(PDF)
        assert lead.post(f"/operations/files/{number}/again").status_code == 302
        clock.turn(seconds=1)
        assert fetch_due_files(any_context, files.trusting) == 1
        assert get_caveats(any_context).count(NOT_FETCHED_CAVEAT) == caveat_count
    assert count_rows(any_context, StoredAttachment) == 2
    lead.post("/operations/files/2/again")
    assert "There is no such file to be fetched." in lead.get("/operations").text


# -- one file ----


def fetch_file(
    files: FileServer,
    path: str = "/a",
    *,
    hosts: tuple[str, ...] = (),
    seconds: float = 5,
    **more: Any,
) -> DownloadedFile:
    bounds = DownloadLimits(1000, seconds, more.get("tls", files.trusting))
    return asyncio.run(fetch(more.get("url", files.url + path), hosts or (files.place,), bounds))


def get_refusal(files: FileServer, path: str = "/a", **more: Any) -> tuple[str, bool]:
    with pytest.raises(DownloadError) as raised:
        fetch_file(files, path, **more)
    return raised.value.reason, raised.value.is_permanent


@pytest.mark.parametrize(
    ("path", "headers", "name", "mime"),
    [
        ("/x/a%20b.pdf?sig=1", {}, "a b.pdf", "application/octet-stream"),
        ("/file/12", {"Content_Type": "image/png; x=y"}, "", "image/png"),
        (
            "/a",
            {"Content_Disposition": 'attachment; filename="../../etc/pass\u00e9wd.sh"'},
            "passéwd.sh",
            None,
        ),
        (
            "/a",
            {"Content_Type": "nonsense", "Content_Disposition": "attachment; filename="},
            "",
            None,
        ),
        (
            "/a",
            {"Content_Type": "text/html", "Content_Disposition": "attachment; filename=a.md"},
            "a.md",
            "text/html",
        ),
    ],
)  # fmt: skip
def test_a_file_is_called_and_typed_safely(
    files: FileServer, path: str, headers: dict[str, str], name: str, mime: str | None
) -> None:
    files.answers[path] = answer_with(PDF, **headers)
    found = fetch_file(files, path)
    assert found.content == PDF
    assert (found.name, found.mime) == (name, mime or "application/octet-stream")


def test_a_redirect_on_the_list_is_followed_and_one_off_it_is_not(files: FileServer) -> None:
    files.answers |= {
        "/a": answer_with_status(302, Location="/b"),
        "/b": answer_with_status(307, Location=f"{files.url}/c"),
        "/c": answer_with(PDF),
    }
    assert fetch_file(files).content == PDF
    off = [
        f"http://{files.place}/c",
        "https://elsewhere.example/c",
        "https://[",
        "//localhost/c",
        "file:///etc/passwd",
    ]
    for place in off:
        files.answers["/a"] = answer_with_status(302, Location=place)
        assert get_refusal(files)[1] is (place != "https://["), place
    files.answers["/a"] = answer_with_status(302, Location="/a")
    assert get_refusal(files) == ("it leads from place to place", True)


def test_what_is_too_large_is_cut_off_whatever_it_says_of_itself(files: FileServer) -> None:
    files.answers["/a"] = answer_with(b"x" * 1001)
    assert get_refusal(files) == ("it is larger than INTAKE_FILE_LIMIT", True)
    files.answers["/a"] = answer_slowly(files.over, head=False)
    assert get_refusal(files, seconds=0.3) == ("it took too long", False)
    files.answers["/a"] = lambda handler: (
        handler.send_response(200),
        handler.end_headers(),
        handler.wfile.write(b"x" * 5000),
        None,
    )[-1]
    assert get_refusal(files) == ("it is larger than INTAKE_FILE_LIMIT", True)


def test_a_header_that_trickles_ends_too(files: FileServer) -> None:
    files.answers["/a"] = answer_slowly(files.over, head=True)
    assert get_refusal(files, seconds=0.3) == ("it took too long", False)


def test_half_a_file_is_none(files: FileServer) -> None:
    files.answers["/a"] = answer_with(PDF, Content_Length=str(len(PDF) + 1))
    assert get_refusal(files) == ("no connection, or it broke off", False)


@pytest.mark.parametrize(
    ("answer", "reason", "final"),
    [
        (
            answer_with(b"<html>sign in", Content_Type="text/html; charset=utf-8"),
            "it is a page and not a file",
            True,
        ),
        (answer_with(b"\x1f\x8b", Content_Encoding="gzip"), "it comes compressed", True),
        (answer_with_status(403), "the server answered 403", True),
        (answer_with_status(404), "the server answered 404", True),
        (answer_with_status(500), "the server answered 500", False),
        (answer_with_status(206), "the server answered 206", True),
    ],
)
def test_what_is_no_file_is_not_kept(
    files: FileServer,
    answer: Any,
    reason: str,
    final: bool,  # noqa: FBT001
) -> None:
    files.answers["/a"] = answer
    custom, is_final = get_refusal(files)
    assert custom.startswith(reason)
    assert is_final is final


def test_a_name_that_means_this_machine_is_never_asked(files: FileServer) -> None:
    port = files.place.partition(":")[2]
    for name in ("localhost", "127.1", "0x7f.1", "2130706433"):
        hosts = (f"{name}:{port}",)
        assert get_refusal(files, url=f"https://{name}:{port}/a", hosts=hosts) == (
            "its host is one of an inner network",
            True,
        )
    assert files.asked == []


def test_a_certificate_that_nobody_vouches_for_is_no_connection(files: FileServer) -> None:
    import httpx  # noqa: PLC0415

    assert get_refusal(files, tls=httpx.create_ssl_context()) == (
        "no connection, or it broke off",
        False,
    )


def test_a_host_that_nobody_knows_is_asked_for_again(files: FileServer) -> None:
    custom = get_refusal(files, url="https://nobody.invalid/a", hosts=("nobody.invalid",))
    assert custom == ("its host is not known", False)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("64:ff9b::808:808", True),
        ("127.0.0.1", False), ("10.0.0.1", False), ("0.0.0.0", False),  # noqa: S104
        ("169.254.169.254", False), ("100.64.0.1", False), ("224.0.0.1", False), ("::1", False),
        ("fd00::1", False), ("fe80::1%eth0", False), ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False), ("ff0e::1", False),
        ("192.0.2.1", False), ("::", False),
    ],
)  # fmt: skip
def test_an_inner_address_is_recognised_in_every_notation(address: str, *, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://files.example/a", True),
        ("https://FILES.example:443/a?b#c", True),
        ("https://s3.example/bucket/a", True),
        ("https://s3.example/bucket", True),
        ("https://s3.example/bucket.evil/a", False),
        ("https://s3.example/other/a", False),
        ("https://s3.example/bucket/../other/a", False),
        ("https://s3.example/bucket/%2e%2e/other/a", False),
        ("https://s3.example/bucket/%252e%252e/other/a", False),
        ("https://s3.example/bucket\\..\\other", False),
        ("https://[2606:4700::1111]:8443/a", True),
        ("http://files.example/a", False),
        ("https://files.example:8443/a", False),
        ("https://files.example.evil.example/a", False),
        ("https://evil.example/files.example/a", False),
        ("https://u:p@files.example/a", False),
        ("https://files.example@evil.example/a", False),
        ("https://", False),
        ("https://files.example:x/", False),
        ("//files.example/a", False),
    ],
)
def test_only_what_the_list_names_is_allowed(url: str, good: bool) -> None:  # noqa: FBT001
    hosts = ("Files.example", "s3.example/bucket/", "[2606:4700::1111]:8443")
    assert is_allowed(url, hosts) is good
    assert not is_allowed(url, ())


@examples(deadline=None, max_examples=50)
@given(st.text() | st.text("https:/@%2.[]\\", min_size=8))
def test_whatever_a_link_is_it_is_allowed_or_not(url: str) -> None:
    assert not is_allowed(url, ("files.example",)) or "files.example" in url.casefold()
