"""The warning page before a link of a message that leads away from its sender."""

from collections.abc import Callable

from flask import Blueprint, abort, render_template, url_for

from console.presenters.tickets import links
from console.presenters.tickets.timeline import MessageEntry
from console.web.request import get_session, requires
from workflow.models.core import Message
from workflow.permissions import Right

pages = Blueprint("links", __name__)


@pages.get("/messages/<int:number>/links/<key>")
@requires(Right.READ)
def warn(number: int, key: str) -> str:
    """Show where a link of a message leads. 404 for a link that is not in the message."""
    message = get_session().get(Message, number) or abort(404)
    link = links.find_link(message, key) or abort(404)
    return render_template("ticket/link.html", message=message, link=link)


def make_href_builder(message: Message | MessageEntry) -> Callable[[str], str]:
    """Return a function that gives the target for the address of a link of a message.

    It is the address itself for the sender's own domain and in what the desk has written, else the
    address of the warning page.
    """
    number, senders = _get_number_and_senders(message)
    # A note with a judgement is a program's message, such as an automatic answer.
    is_ours = message.direction == "out" or (message.direction == "note" and not message.judgement)

    def build_href(address: str) -> str:
        if is_ours or links.is_of_sender(address, senders):
            return address
        return url_for("links.warn", number=number, key=links.make_key(address))

    return build_href


def _get_number_and_senders(message: Message | MessageEntry) -> tuple[int, tuple[str, ...]]:
    if isinstance(message, MessageEntry):
        return message.number, (message.email,)
    return message.id, (message.from_email,)
