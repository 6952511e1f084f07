"""A context that sends through a relay, and access to the mails it has queued and sent."""

from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage

from pydantic import SecretStr

from tests.support.context import RecordingNotifier
from workflow.context import AppContext, open_context
from workflow.models.core import OutgoingMail


@contextmanager
def send_through(context: AppContext, url: str) -> Iterator[AppContext]:
    """Give the same context, opened again with this relay."""
    settings = context.settings.model_copy(update={"relay_url": SecretStr(url)})
    opened = open_context(settings, notifier=RecordingNotifier(), clock=context.clock)
    yield opened
    opened.close()


def get_outgoing_mail(context: AppContext, number: int = 1) -> OutgoingMail:
    with context.store.read_only() as session:
        return session.get_one(OutgoingMail, number)


def read(raw: bytes) -> EmailMessage:
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message
