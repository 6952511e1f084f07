"""Parser of mail (RFC 5322): one message becomes one item, whatever state it is in."""

import re
from dataclasses import replace
from email.utils import format_datetime

from parsers.item import Address, Format, InboundItem, ParseError
from parsers.mail import automatic, body, forwarded, outlook_file, secure_links
from parsers.mail.bounces import report
from parsers.mail.replies import extract, quote_markers, thanks
from parsers.mail.replies import html as replies_html
from parsers.mail.syntax import addresses, dates, headers, mime
from parsers.mail.syntax.headers import Fields
from parsers.options import DEFAULT_OPTIONS, Options
from parsers.text import charsets
from parsers.text import html as text_html

NO_TEXT = "no text"
ATTACHED_TEXT = "its text is that of the attached messages"
ATTACHED_LINE = "---------- Attached message ----------"
MAX_ATTACHED = 20  # attached messages whose text is shown
MAX_NAMED = 12  # people of To that are named with it
MAX_ATTACHED_DEPTH = 3  # of messages within messages
MAX_SUBJECT = 2000
MAX_REFERENCES = 100
LIST_FIELDS = ("list-id", "list-post", "mailing-list", "x-beenthere")
MAX_LISTS = 10  # fields of each name, and lists, that are kept
_LIST_NAME = re.compile(r"[\w.+=-]{1,200}(?:@|\.)[\w-]{1,100}(?:\.[\w-]{1,100}){0,8}")
MAX_RESULTS = 10  # Authentication-Results that are kept
MAX_RESULT = 4000  # characters of one


def parse(raw: bytes, _: Options = DEFAULT_OPTIONS) -> list[InboundItem]:
    """Parse one mail into a list of exactly one item.

    What cannot be read becomes a caveat: a mail is a customer's request even where its syntax is
    not that of a mail. Raises ParseError when there are no bytes, and nothing else.
    """
    if not raw or raw.isspace():
        raise ParseError("the message is empty")
    mail = outlook_file.to_mail(raw)
    item = _show_attached(_parse(raw if mail is None else mail), MAX_ATTACHED_DEPTH)
    if mail is not None:  # places in it are none in the bytes that came
        files = tuple(replace(attachment, span=None) for attachment in item.attachments)
        item = replace(item, attachments=files)
    return [item]


def _parse(raw: bytes) -> InboundItem:
    tree = mime.parse(raw)
    return _make_item(tree, body.parse_body(tree))


def _show_attached(item: InboundItem, depth: int) -> InboundItem:
    """Return an item without a text of its own with that of the messages attached to it.

    `depth` is how many levels of attached messages may be read.
    """
    files = item.attachments
    messages = [f for f in files if forwarded.is_message(f.name, f.mime)][:MAX_ATTACHED]
    if item.text.strip() or item.is_bounce or not messages or depth == 0:
        return item
    attached = (_show_attached(_parse(file.content), depth - 1) for file in messages)
    text = "\n\n".join(map(_write_out, attached))[: body.MAX_TEXT]
    caveats = tuple(caveat for caveat in item.caveats if caveat != NO_TEXT)
    return replace(item, text=text, reply_text=text, caveats=(*caveats, ATTACHED_TEXT))


def _write_out(item: InboundItem) -> str:
    """Return a message as text: who wrote it to whom and when, and its text."""
    fields = {
        "From": _write_address(item.sender),
        "To": ", ".join(map(_write_address, item.to[:MAX_NAMED])),
        "Date": format_datetime(item.sent_at) if item.sent_at else "",
        "Subject": item.subject,
        "Files": ", ".join(file.name for file in item.attachments),
    }
    head = "\n".join(f"{name}: {value}" for name, value in fields.items() if value)
    return f"{ATTACHED_LINE}\n{head}\n\n{item.text.strip()}".strip()


def _write_address(person: Address) -> str:
    return f"{person.name} <{person.email}>" if person.name else person.email


def _make_item(tree: mime.MessageTree, content: body.Body) -> InboundItem:
    fields, hint = tree.fields, _find_charset(tree.root)
    ids = headers.find_message_ids(fields.find_first("message-id"))
    answered_ids = headers.find_message_ids(fields.find_first("in-reply-to"))
    sender = _find_sender(fields, hint)
    subject = fields.find_text("subject", hint)[:MAX_SUBJECT]
    body_text = content.text
    verdict = automatic.classify(fields, subject, sender, tree.root, body_text)
    role = _find_role(fields, subject, is_bounce=verdict.is_bounce)
    html = content.html
    links = [link for link in text_html.list_links(html) if link[1] not in body_text]
    reply_text = _extract_newest(content, role)
    forwarded_headers = forwarded.find_headers(body_text, content.attachments)
    is_forward = forwarded.passes_on(subject, forwarded_headers)
    verdict = automatic.add_unmarked(
        verdict,
        sender,
        subject,
        reply_text,
        is_answer=role is extract.ThreadRole.REPLY and bool(subject),
        passes_on=is_forward or role is extract.ThreadRole.FORWARD,
    )
    item = InboundItem(
        format=Format.MAIL,
        external_id=ids[0].strip("<>") if ids else "",
        sender=sender,
        reply_to=_list_people(fields, "reply-to", hint),
        original_sender=_find_original_sender(fields, hint),
        forwarded=forwarded_headers,
        is_forward=is_forward,
        is_form_mail=forwarded.is_form_mail(fields),
        to=_list_people(fields, "to", hint),
        cc=_list_people(fields, "cc", hint),
        subject=subject,
        text=body_text,
        reply_text=reply_text,
        plain=content.plain,
        html=html,
        details=tuple((label or address, address) for label, address in links),
        sent_at=dates.find_date(fields),
        message_id=ids[0] if ids else "",
        in_reply_to=answered_ids[0] if answered_ids else "",
        references=headers.find_message_ids(fields.find_first("references"))[-MAX_REFERENCES:],
        attachments=tuple(content.attachments),
        bounce=report.parse(fields, tree.root, subject, body_text) if verdict.is_bounce else None,
        authentication=_find_authentication(fields),
        is_auto_reply=verdict.is_auto_reply,
        is_bounce=verdict.is_bounce,
        is_only_thanks=thanks.is_only_thanks(reply_text),
        is_automated=verdict.is_automated,
        loop_addresses=tuple(address.key for address in _list_people(fields, "x-loop", hint)),
        list_names=_find_list_names(fields),
        signs=verdict.signs,
    )
    secure_caveat = secure_links.find_caveat(subject, body_text, links, item.attachments)
    item = replace(item, is_secure_notice=bool(secure_caveat))
    caveats = (*tree.caveats, *content.caveats, *filter(None, [secure_caveat]))
    return _add_caveats(item, caveats, is_sealed=content.has_sealed_block)


def _add_caveats(item: InboundItem, caveats: tuple[str, ...], *, is_sealed: bool) -> InboundItem:
    """Return the item with these caveats, and those on what a consultant will miss before them."""
    missing = {
        "no sender address": not item.contact.email,
        "no subject": not item.subject,
        NO_TEXT: not item.text.strip(),
        "in one sealed block: cannot be read here": is_sealed,
    }
    every = (*(caveat for caveat, is_missing in missing.items() if is_missing), *caveats)
    return replace(item, caveats=tuple(dict.fromkeys(every))) if every else item


def _find_charset(part: mime.Part) -> str:
    """Return the charset of the first part that names one, else "".

    Bytes above ASCII in the header are mostly in the same charset.
    """
    label = mime.find_charset(part)
    return label or next(filter(None, map(_find_charset, part.children)), "")


def _find_sender(fields: Fields, hint: str) -> Address:
    """Return the first From with an address, else the Sender, else a name alone."""
    people = [*_parse_people(fields, "from", hint), *_parse_people(fields, "sender", hint)]
    if not people:
        return Address()
    return next((person for person in people if person.email), people[0])


def _find_original_sender(fields: Fields, hint: str) -> Address:
    """Return the author whom a mailing group names beside its own address in From; empty for none.

    Google Groups writes X-Original-From for senders whose domain publishes a DMARC policy.
    """
    for name in ("x-original-from", "x-original-sender", "x-google-original-from"):
        if people := _parse_people(fields, name, hint):
            return people[0]
    return Address()


def _parse_people(fields: Fields, name: str, hint: str) -> list[Address]:
    return [person for value in fields.find_all(name) for person in addresses.parse(value, hint)]


def _list_people(fields: Fields, name: str, hint: str) -> tuple[Address, ...]:
    return tuple(_parse_people(fields, name, hint)[: addresses.MAX_ADDRESSES])


def _find_list_names(fields: Fields) -> tuple[str, ...]:
    """Return the lists and groups that a mail came through, as their fields name them.

    `<billing.example.com>` in List-Id (RFC 2919), `<mailto:billing@example.com>` in List-Post
    (RFC 2369), `list billing@example.com` in Mailing-list (Google Groups).
    """
    values = [v for name in LIST_FIELDS for v in fields.find_all(name)[:MAX_LISTS]]
    names = [name for value in values for name in _LIST_NAME.findall(charsets.decode(value[:998]))]
    return tuple(dict.fromkeys(name.casefold() for name in names))[:MAX_LISTS]


def _find_authentication(fields: Fields) -> tuple[str, ...]:
    """Return the Authentication-Results, topmost first, on one line each (RFC 8601 §2.2).

    Which servers' results can be trusted is for `workflow.filing` to decide.
    """
    values = [
        headers.to_one_line(charsets.decode(value[:MAX_RESULT]))
        for value in fields.find_all("authentication-results")
    ]
    return tuple(filter(None, values))[:MAX_RESULTS]


def _find_role(fields: Fields, subject: str, *, is_bounce: bool) -> extract.ThreadRole:
    """Return whether a message passes another one on, answers one, or stands for itself.

    A message without a subject may be an answer. A bounce returns a mail that was sent, as an
    answer quotes one.
    """
    if quote_markers.FORWARD_SUBJECT.match(subject) and not is_bounce:
        return extract.ThreadRole.FORWARD
    is_answer = (
        is_bounce
        or not subject
        or fields.find_first("in-reply-to")
        or fields.find_first("references")
        or quote_markers.REPLY_SUBJECT.match(subject)
    )
    return extract.ThreadRole.REPLY if is_answer else extract.ThreadRole.NEW


def _extract_newest(content: body.Body, role: extract.ThreadRole) -> str:
    """Return the newest text, and the texts outside of the parts: nobody quotes there."""
    newest = _extract_newest_of_parts(content, role)
    pieces = (*content.texts_before, newest, *content.texts_behind)
    return body.join_texts(pieces)[: body.MAX_TEXT]


def _extract_newest_of_parts(content: body.Body, role: extract.ThreadRole) -> str:
    """Return the newest text of the parts.

    HTML marks quotes best, so it decides where the plain form is missing or shows no quote.
    """
    html = content.html
    if html and not content.has_plain:
        return extract.extract_newest_from_html(html, role)
    newest = extract.extract_newest(content.main_text, role)
    shows_no_quote = len(newest) >= len(content.main_text.strip())
    if html and shows_no_quote and replies_html.has_quote_marks(html):
        return extract.extract_newest_from_html(html, role) or newest
    return newest
