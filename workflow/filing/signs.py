"""Signs of automatic mail that take more than the message.

Its envelope, our addresses, a person's word.
"""

from dataclasses import replace

from parsers.item import Format, InboundItem
from parsers.mail import evidence
from workflow.customers import directory
from workflow.models.core import Delivery
from workflow.settings.settings import Settings

# Only what comes from a mail system is made a bounce by its words alone.
BOUNCE_WORDING = "bounce-wording"


def add_envelope_signs(settings: Settings, item: InboundItem, delivery: Delivery) -> InboundItem:
    """Return an item with the signs that its delivery adds or takes away.

    The envelope's sender, where a listener was told one, goes before what a field of the mail says
    of it. A delivery of which a person has said that a person wrote it has no signs.
    """
    if item.format is not Format.MAIL:
        return item
    if delivery.by_person:
        return replace(item, is_automated=False, is_auto_reply=False, is_bounce=False, signs=())
    names = set(item.signs)
    if "mail_from" in delivery.envelope:
        names.discard(evidence.NULL_SENDER)
        if delivery.envelope["mail_from"] == "":
            names.add(evidence.NULL_SENDER)
        elif not evidence.is_from_mail_system(names):
            names.discard(BOUNCE_WORDING)
    if any(directory.is_our_address(address, settings) for address in item.loop_addresses):
        names.add("loop-through-us")
    if names == set(item.signs):
        return item
    return replace(item, signs=evidence.order_signs(names), is_automated=bool(names))
