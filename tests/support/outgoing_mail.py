"""What the tests of mail out share.

A house that sends through a relay, and a look at what it promised and sent.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage

from pydantic import SecretStr

from tests.support.context import Woken
from workflow.context import House, open_house
from workflow.models.core import Outgoing


@contextmanager
def sending_through(house: House, url: str) -> Iterator[House]:
    """The same house once more, opened with this relay."""
    given = house.settings.model_copy(update={"relay_url": SecretStr(url)})
    opened = open_house(given, waker=Woken(), clock=house.clock)
    yield opened
    opened.close()


def outgoing(house: House, number: int = 1) -> Outgoing:
    with house.store.reading() as session:
        return session.get_one(Outgoing, number)


def read(raw: bytes) -> EmailMessage:
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message
