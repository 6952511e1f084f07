"""A call written down by staff.

The console composes it, the same door and parser as everything else reads it.
"""

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
    """A contact a person chose.

    `share_activity` is the box that shows the ticket's activity on their record.
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
    """Write the bytes `parse` reads.

    `call_id` makes the call the same one however often it is sent in.
    """
    people = [
        {"name": one.name, "email": one.email, "share_activity": one.share_activity}
        for one in contacts
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
    """Read one item: the caller, or else the first contact, is the sender.

    The other contacts stand in `to`.

    `external_id` is the `id`. `details` repeats everything that was typed about the caller, whole
    and as it was typed: an address nobody can write to, a name without an address and a long
    subject are readable there. Raises ParseError when the bytes are not such an object.
    """
    call = dict(text_json.parse_object(raw))
    people = _people(call)
    sender = people[0] if people else Address()
    return [
        InboundItem(
            format=Format.PHONE,
            external_id=_external_id(call),
            sender=sender,
            to=people[1:],
            on_company=call.get("on_company") is not False,
            company=normalize.to_one_line(_string(call, "company")),
            phone=normalize.to_one_line(_string(call, "phone")),
            subject=normalize.to_one_line(_string(call, "subject")),
            text=normalize.clean(_string(call, "text")),
            unshared_addresses=tuple(_not_shared(call)),
            details=tuple(_details(call)),
            telemedicine=call.get("telemedicine") is True,
            caveats=tuple(_caveats(call, sender)),
        )
    ]


def _string(call: dict[str, Json], key: str) -> str:
    value = call.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ParseError(f"a call whose '{key}' is not text: write it down again in the console")
    return value


def _external_id(call: dict[str, Json]) -> str:
    found = normalize.to_one_line(_string(call, "id"))
    if not found:
        raise ParseError("a call without an 'id': write it down again in the console")
    return found


def _people(call: dict[str, Json]) -> tuple[Address, ...]:
    caller = _person(_string(call, "name"), _string(call, "email"))
    chosen = [_person(_string(one, "name"), _string(one, "email")) for one in _contacts(call)]
    known: dict[str, Address] = {}
    for one in (caller, *chosen):
        if one.name or one.email:
            known.setdefault(one.key or one.name, one)
    return tuple(known.values())


def _person(name: str, email: str) -> Address:
    found = normalize.find_emails(email)
    return Address(name=normalize.to_one_line(name), email=found[0] if found else "")


def _contacts(call: dict[str, Json]) -> list[dict[str, Json]]:
    listed = call.get("contacts") or []
    if not isinstance(listed, list):
        raise ParseError(
            "a call whose 'contacts' is not a list: write it down again in the console"
        )
    return [dict(one) for one in listed if isinstance(one, tuple)]


def _details(call: dict[str, Json]) -> list[tuple[str, str]]:
    email, subject = _string(call, "email"), _string(call, "subject")
    typed = [
        ("Caller", _string(call, "name")),
        ("Call back", _string(call, "phone")),
        # A usable address stands in `from`, a subject of usual length in `subject`.
        ("E-mail address", "" if normalize.find_emails(email) == (email.strip(),) else email),
        ("Practice", _string(call, "company")),
        ("In a few words", subject if len(subject) > normalize.MAX_LINE_LENGTH else ""),
        *(("Contact", _contact_words(one)) for one in _contacts(call)),
        ("Written down by", _string(call, "created_by")),
    ]
    return [(label, clean) for label, value in typed if (clean := normalize.clean(value))]


def _contact_words(contact: dict[str, Json]) -> str:
    name, email = _string(contact, "name").strip(), _string(contact, "email").strip()
    return f"{name} <{email}>" if name and email else name or email


def _not_shared(call: dict[str, Json]) -> list[str]:
    hidden = [one for one in _contacts(call) if one.get("share_activity") is False]
    return [address.key for one in hidden if (address := _person("", _string(one, "email"))).key]


def _caveats(call: dict[str, Json], sender: Address) -> list[str]:
    unusable = bool(_string(call, "email").strip()) and not sender.email
    missing = {
        "the e-mail address given cannot be used": unusable,
        "no e-mail address given": not sender.email and not unusable,
        "no phone number given": not _string(call, "phone").strip(),
        "practice not given": not _string(call, "company").strip(),
    }
    return [caveat for caveat, is_missing in missing.items() if is_missing]
