"""Send one item through each channel: SMTP, signed HTTP, watched folder, phone call."""

import hashlib
import hmac
import json
import secrets
import smtplib
import socket
from email.message import EmailMessage
from email.utils import make_msgid

from console.bootstrap import get_login_name
from ingest.phone_call import PhoneCall, write_down
from parsers.phone_call import Contact
from workflow.context import AppContext
from workflow.settings.settings import Settings
from workflow.tickets.actions import Actor

PRACTICE = "Demo Practice"
CUSTOMER_NAME = "Dana Demo"
TIMEOUT_SECONDS = 20


def send_mail(settings: Settings, customer: str) -> None:
    """Send a customer's mail by SMTP. Raises OSError when it is not accepted."""
    message = EmailMessage()
    message["From"] = f"{CUSTOMER_NAME} <{customer}>"
    message["To"] = settings.sender
    message["Subject"] = "A payment is missing"
    message["Message-ID"] = make_msgid(domain="demo-practice.example")
    message.set_content("Hello,\n\na payment of May is missing in our account.\n\nDana\n")
    host, _, port = settings.smtp_listen.rpartition(":")
    with smtplib.SMTP(host.strip("[]"), int(port), timeout=TIMEOUT_SECONDS) as smtp:
        smtp.send_message(message)


def send_form(settings: Settings, customer: str, key: str) -> None:
    """Post a form signed as Formstack does. Raises OSError when it is not accepted."""
    import httpx

    fields = {
        "FormID": "6606394",
        "UniqueID": str(secrets.randbelow(10**9) + 10**9),
        "Practice Name": PRACTICE,
        "Name": {"first": "Dana", "last": "Demo"},
        "Email": customer,
        "Phone": "555-0100",
        "Subject": "A claim was denied",
        "Message": "Claim 4711 was denied twice.",
    }
    body = json.dumps(fields).encode()
    signature = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "X-FS-Signature": f"sha256={signature}"}
    try:
        answer = httpx.post(
            f"http://{settings.webhook_listen}/formstack",
            content=body,
            headers=headers,
            timeout=TIMEOUT_SECONDS,
        )
    except httpx.HTTPError as error:
        raise ConnectionError(type(error).__name__) from None
    if answer.status_code != 202:  # noqa: PLR2004  # the only success of the contract
        raise ConnectionError(f"HTTP {answer.status_code}")


def drop_workbook(settings: Settings, customer: str) -> None:
    """Save an Excel export of secure messages into the watched folder."""
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(
        ["Message ID", "Date Received", "Practice Name", "From", "From Email", "Subject", "Message"]
    )
    token = secrets.token_hex(4)
    sheet.append(
        [
            f"SM-{token}",
            "2026-05-04 09:30",
            PRACTICE,
            CUSTOMER_NAME,
            customer,
            "A code",
            "Which code do we use?",
        ]
    )
    book.save(settings.dropbox / f"secure messages {token}.xlsx")


def record_call(context: AppContext, customer: str) -> int:
    """Record a phone call as `intake ticket new` does; return the ticket's id."""
    phone_call = PhoneCall(
        text="Please call back.",
        contacts=[Contact(email=customer)],
        company=PRACTICE,
        name=CUSTOMER_NAME,
        email=customer,
        phone="555-0100",
        subject="A call",
    )
    operator = Actor.operator(get_login_name())
    return write_down(context, phone_call, actor=operator, take=False).ticket


def find_free_ports(count: int) -> list[int]:
    """Return ports nobody listens on at the moment."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
