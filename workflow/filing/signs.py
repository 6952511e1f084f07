"""Signs of automatic mail that are not in the message itself.

They come from its envelope, our addresses and the judgement of a person.
"""

from dataclasses import replace

from parsers.item import Format, InboundItem
from parsers.mail import evidence
from workflow.customers import directory
from workflow.models.core import Delivery
from workflow.settings.settings import Settings

# Wording alone makes a bounce only of what a mail system has sent.
BOUNCE_WORDING = "bounce-wording"


def add_envelope_signs(settings: Settings, item: InboundItem, delivery: Delivery) -> InboundItem:
    """Return an item with the signs that its delivery adds or removes.

    The sender in the envelope, where the channel knows it, overrides what a header says about it.
    What a mailing list adds is no sign where the list is our own way to the desk. A
    delivery that staff marked as written by a person has no signs.
    """
    if item.format is not Format.MAIL:
        return item
    if delivery.by_person:
        return replace(item, is_automated=False, is_auto_reply=False, is_bounce=False, signs=())
    sign_names = set(item.signs)
    if "mail_from" in delivery.envelope:
        _correct_by_envelope(sign_names, delivery.envelope["mail_from"])
    if any(directory.is_our_list(name, settings) for name in item.list_names):
        sign_names -= evidence.LIST_SIGNS
    if any(directory.is_our_address(address, settings) for address in item.loop_addresses):
        sign_names.add("loop-through-us")
    if sign_names == set(item.signs):
        return item
    return replace(item, signs=evidence.order_signs(sign_names), is_automated=bool(sign_names))


def _correct_by_envelope(sign_names: set[str], mail_from: str) -> None:
    """Correct the signs of a mail by the sender in its envelope, "" for the null sender."""
    sign_names.discard(evidence.NULL_SENDER)
    if mail_from == "":
        sign_names.add(evidence.NULL_SENDER)
    elif not evidence.is_from_mail_system(sign_names):
        sign_names.discard(BOUNCE_WORDING)
