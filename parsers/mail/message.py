"""RFC 5322 messages: one mail becomes one item, whatever state it is in."""

from dataclasses import replace

from parsers.item import Address, Format, InboundItem, ParseError
from parsers.mail import automatic, body
from parsers.mail.bounces import report
from parsers.mail.replies import extract, quote_markers
from parsers.mail.replies import html as replies_html
from parsers.mail.syntax import addresses, dates, headers, mime
from parsers.mail.syntax.headers import Fields
from parsers.options import PLAIN, Options
from parsers.text import charsets

MAX_SUBJECT = 2000
MAX_REFERENCES = 100
SEALED = frozenset(
    {"application/pkcs7-mime", "application/x-pkcs7-mime"}
)  # S/MIME, encrypted or signed opaquely
MAX_RESULTS = 10  # Authentication-Results that are kept
MAX_RESULT = 4000  # characters of one


def parse(raw: bytes, _: Options = PLAIN) -> list[InboundItem]:
    """Read one mail: exactly one item. Raises ParseError when there are no bytes, and nothing else.

    What cannot be read becomes a caveat: a mail is a customer's request even where its syntax is
    not a mail's.
    """
    if not raw or raw.isspace():
        raise ParseError("the message is empty")
    tree = mime.read(raw)
    content = body.read(tree)
    return [_item(tree, content)]


def _item(tree: mime.Tree, content: body.Body) -> InboundItem:
    fields, hint = tree.fields, _hint(tree.root)
    ids = headers.message_ids(fields.first("message-id"))
    sender = _sender(fields, hint)
    subject = fields.text("subject", hint)[:MAX_SUBJECT]
    shown = content.text
    verdict = automatic.judge(fields, subject, sender, tree.root, shown)
    item = InboundItem(
        format=Format.MAIL,
        external_id=ids[0].strip("<>") if ids else "",
        sender=sender,
        reply_to=_people(fields, "reply-to", hint),
        to=_people(fields, "to", hint),
        cc=_people(fields, "cc", hint),
        subject=subject,
        text=shown,
        reply_text=_newest(content, _thread(fields, subject, is_bounce=verdict.is_bounce)),
        plain=content.plain,
        html=content.html,
        sent_at=dates.sent_at(fields),
        message_id=ids[0] if ids else "",
        in_reply_to=next(iter(headers.message_ids(fields.first("in-reply-to"))), ""),
        references=headers.message_ids(fields.first("references"))[-MAX_REFERENCES:],
        attachments=tuple(content.attachments),
        bounce=report.read(fields, tree.root, subject, shown) if verdict.is_bounce else None,
        authentication=_authentication(fields),
        is_auto_reply=verdict.is_auto_reply,
        is_bounce=verdict.is_bounce,
        is_automated=verdict.is_automated,
        loops=tuple(address.key for address in _people(fields, "x-loop", hint)),
        signs=verdict.signs,
        caveats=(),
    )
    return _with_caveats(item, (*tree.caveats, *content.caveats))


def _with_caveats(item: InboundItem, found: tuple[str, ...]) -> InboundItem:
    """Name what a consultant will miss."""
    missing = [
        words
        for words, absent in (
            ("no sender address", not item.contact.email),
            ("no subject", not item.subject),
            ("no text", not item.text.strip()),
            (
                "in one sealed block: cannot be read here",
                any(a.mime in SEALED for a in item.attachments),
            ),
        )
        if absent
    ]
    return (
        replace(item, caveats=tuple(dict.fromkeys((*missing, *found))))
        if missing or found
        else item
    )


def _hint(part: mime.Part) -> str:
    """Charset of the first part that names one.

    Headers with bytes above ASCII are mostly in the same.
    """
    label = mime.charset(part)
    return label or next(filter(None, map(_hint, part.children)), "")


def _sender(fields: Fields, hint: str) -> Address:
    """Return who wrote: the first From with an address, else the Sender, else a name alone."""
    candidates = [
        a
        for name in ("from", "sender")
        for value in fields.every(name)
        for a in addresses.parse(value, hint)
    ]
    return next((a for a in candidates if a.email), candidates[0] if candidates else Address())


def _people(fields: Fields, name: str, hint: str) -> tuple[Address, ...]:
    people = [a for value in fields.every(name) for a in addresses.parse(value, hint)]
    return tuple(people[: addresses.MAX_ADDRESSES])


def _authentication(fields: Fields) -> tuple[str, ...]:
    """Every Authentication-Results, topmost first, on one line each (RFC 8601 §2.2).

    Whom to believe is not ours.
    """
    values = [
        headers.one_line(charsets.decode(value[:MAX_RESULT]))
        for value in fields.every("authentication-results")
    ]
    return tuple(filter(None, values))[:MAX_RESULTS]


def _thread(fields: Fields, subject: str, *, is_bounce: bool) -> extract.Thread:
    """Return whether a message passes another one on, answers one, or stands for itself.

    Only a subject that is no answer's tells a new message: without one, nobody knows. A bounce
    returns what was sent.
    """
    if quote_markers.forward_subject.match(subject) and not is_bounce:
        return extract.Thread.FORWARD
    answers = (
        fields.first("in-reply-to")
        or fields.first("references")
        or quote_markers.reply_subject.match(subject)
    )
    return extract.Thread.REPLY if answers or is_bounce or not subject else extract.Thread.NEW


def _newest(content: body.Body, thread: extract.Thread) -> str:
    """Newest text, and what stood outside of the parts: nobody quotes there."""
    pieces = (*content.before, _newest_of_parts(content, thread), *content.behind)
    return body.joined(pieces)[: body.MAX_TEXT]


def _newest_of_parts(content: body.Body, thread: extract.Thread) -> str:
    """Newest text: HTML marks quotes best.

    So it decides where the plain form is missing or shows no quote.
    """
    html = content.html
    if html and not content.has_plain:
        return extract.newest_html(html, thread)
    found = extract.newest(content.main, thread)
    if html and replies_html.has_marks(html) and len(found) >= len(content.main.strip()):
        return extract.newest_html(html, thread) or found
    return found
