"""A call that staff wrote down: composed by the console, parsed like every other delivery."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from parsers.item import Address, Format, InboundItem, ParseError
from parsers.options import DEFAULT_OPTIONS, Options
from parsers.text import json as text_json
from parsers.text import normalize
from parsers.text.json import Json


@dataclass(frozen=True, slots=True)
class Contact:
    """A contact that a person chose for the ticket.

    `share_activity` is true where the ticket's activity is to show on the contact's record.
    """

    name: str = ""
    email: str = ""
    share_activity: bool = True


def compose(  # noqa: PLR0913 - the form has these fields, all named at the call
    *,
    call_id: str,
    company: str = "",
    name: str = "",
    email: str = "",
    phone: str = "",
    subject: str = "",
    text: str = "",
    contacts: Iterable[Contact] = (),
    created_by: str = "",
    telemedicine: bool = False,
    on_company: bool = True,
) -> bytes:
    """Return a call as the bytes that `parse` takes.

    A call with the same `call_id` is the same one, however often it is sent in.
    """
    people = [
        {
            "name": contact.name,
            "email": contact.email,
            "share_activity": contact.share_activity,
        }
        for contact in contacts
    ]
    call = {
        "id": call_id,
        "company": company,
        "name": name,
        "email": email,
        "phone": phone,
        "subject": subject,
        "text": text,
        "contacts": people,
        "created_by": created_by,
        "telemedicine": telemedicine,
        "on_company": on_company,
    }
    return json.dumps(call).encode()


def parse(raw: bytes, _: Options = DEFAULT_OPTIONS) -> list[InboundItem]:
    """Parse a call into a list of exactly one item.

    The caller, or else the first contact, is the sender; the other contacts are in `to`.
    `external_id` is the `id`. `details` repeats everything that was typed about the caller, whole
    and as it was typed: an address nobody can write to, a name without an address and a long
    subject are readable there. Raises ParseError when the bytes are not such an object.
    """
    call = dict(text_json.parse_object(raw))
    people = _list_people(call)
    sender = people[0] if people else Address()
    return [
        InboundItem(
            format=Format.PHONE,
            external_id=_get_external_id(call),
            sender=sender,
            to=people[1:],
            on_company=call.get("on_company") is not False,
            company=normalize.to_one_line(_get_string(call, "company")),
            phone=normalize.to_one_line(_get_string(call, "phone")),
            subject=normalize.to_one_line(_get_string(call, "subject")),
            text=normalize.clean(_get_string(call, "text")),
            unshared_addresses=tuple(_list_unshared(call)),
            details=tuple(_list_details(call)),
            telemedicine=call.get("telemedicine") is True,
            caveats=tuple(_list_caveats(call, sender)),
        )
    ]


def _get_string(call: dict[str, Json], key: str) -> str:
    value = call.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ParseError(f"a call whose '{key}' is not text: write it down again in the console")
    return value


def _get_external_id(call: dict[str, Json]) -> str:
    external_id = normalize.to_one_line(_get_string(call, "id"))
    if not external_id:
        raise ParseError("a call without an 'id': write it down again in the console")
    return external_id


def _list_people(call: dict[str, Json]) -> tuple[Address, ...]:
    """Return the caller and the contacts, each once, without those that are blank."""
    caller = _make_address(_get_string(call, "name"), _get_string(call, "email"))
    contacts = [
        _make_address(_get_string(contact, "name"), _get_string(contact, "email"))
        for contact in _list_contacts(call)
    ]
    people: dict[str, Address] = {}
    for person in (caller, *contacts):
        if person.name or person.email:
            people.setdefault(person.key or person.name, person)
    return tuple(people.values())


def _make_address(name: str, email: str) -> Address:
    emails = normalize.find_emails(email)
    return Address(name=normalize.to_one_line(name), email=emails[0] if emails else "")


def _list_contacts(call: dict[str, Json]) -> list[dict[str, Json]]:
    contacts = call.get("contacts") or []
    if not isinstance(contacts, list):
        raise ParseError(
            "a call whose 'contacts' is not a list: write it down again in the console"
        )
    return [dict(contact) for contact in contacts if isinstance(contact, tuple)]


def _list_details(call: dict[str, Json]) -> list[tuple[str, str]]:
    email, subject = _get_string(call, "email"), _get_string(call, "subject")
    details = [
        ("Caller", _get_string(call, "name")),
        ("Call back", _get_string(call, "phone")),
        # A usable address stands in `from`, a subject of usual length in `subject`.
        ("E-mail address", "" if normalize.find_emails(email) == (email.strip(),) else email),
        ("Practice", _get_string(call, "company")),
        ("In a few words", subject if len(subject) > normalize.MAX_LINE_LENGTH else ""),
        *(("Contact", _describe_contact(contact)) for contact in _list_contacts(call)),
        ("Written down by", _get_string(call, "created_by")),
    ]
    cleaned = ((label, normalize.clean(value)) for label, value in details)
    return [(label, value) for label, value in cleaned if value]


def _describe_contact(contact: dict[str, Json]) -> str:
    name, email = _get_string(contact, "name").strip(), _get_string(contact, "email").strip()
    return f"{name} <{email}>" if name and email else name or email


def _list_unshared(call: dict[str, Json]) -> list[str]:
    """Return the addresses of contacts on whose record the ticket's activity is not to show."""
    contacts = (
        contact for contact in _list_contacts(call) if contact.get("share_activity") is False
    )
    keys = (_make_address("", _get_string(contact, "email")).key for contact in contacts)
    return list(filter(None, keys))


def _list_caveats(call: dict[str, Json], sender: Address) -> list[str]:
    is_unusable = bool(_get_string(call, "email").strip()) and not sender.email
    missing = {
        "the e-mail address given cannot be used": is_unusable,
        normalize.NO_EMAIL: not sender.email and not is_unusable,
        "no phone number given": not _get_string(call, "phone").strip(),
        "practice not given": not _get_string(call, "company").strip(),
    }
    return [caveat for caveat, is_missing in missing.items() if is_missing]
