"""Who a request comes from: staff, companies and contacts, found or put on record."""

import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from parsers.item import Address, Format, InboundItem
from workflow.models.core import Company, CompanyDomain, Contact, Staff, Ticket
from workflow.settings.settings import Settings

_ADDRESS = re.compile(
    r"[^\s@<>,;:\"()\[\]\\\x00-\x1f\x7f]{1,64}@[^\s@<>,;:\"()\[\]\\\x00-\x1f\x7f]{1,255}"
)
_NUMBER = 64  # characters kept of a practice's number
# Everybody has mail there: such a domain is no practice's, and would let any of its senders join a
# practice's tickets.
PUBLIC_MAIL_DOMAINS = frozenset(
    """
    gmail.com googlemail.com yahoo.com ymail.com outlook.com hotmail.com live.com msn.com
    aol.com icloud.com me.com mac.com comcast.net verizon.net att.net sbcglobal.net
    bellsouth.net cox.net charter.net proton.me protonmail.com gmx.com mail.com zoho.com
    yandex.com rocketmail.com myyahoo.com yahoo.ca yahoo.co.uk yahoo.de yahoo.fr yahoo.es
    yahoo.it yahoo.com.mx yahoo.com.br yahoo.co.in yahoo.in yahoo.com.au yahoo.com.ph hotmail.ca
    hotmail.co.uk hotmail.de hotmail.fr hotmail.es hotmail.it live.ca live.co.uk live.de live.fr
    outlook.de outlook.fr outlook.es passport.com windowslive.com aim.com pm.me tuta.com
    tutanota.com fastmail.com fastmail.fm hey.com hushmail.com inbox.com email.com usa.com
    zohomail.com yandex.ru mail.ru qq.com 163.com 126.com naver.com rediffmail.com duck.com
    privaterelay.appleid.com gmx.de gmx.net gmx.at gmx.ch web.de t-online.de freenet.de
    orange.fr free.fr laposte.net libero.it btinternet.com xfinity.com earthlink.net
    mindspring.com juno.com netzero.net optonline.net optimum.net roadrunner.com rr.com twc.com
    spectrum.net frontier.com frontiernet.net windstream.net centurylink.net centurytel.net
    embarqmail.com q.com cableone.net suddenlink.net mediacombb.net wowway.com prodigy.net
    pacbell.net swbell.net ameritech.net snet.net nvbell.net flash.net tds.net hughes.net
    rogers.com shaw.ca sympatico.ca telus.net bell.net
    """.split()  # noqa: SIM905  # a list to be read
)


def is_valid_address(email: str) -> bool:
    """Return whether mail can be sent to this address as it stands.

    One address, nothing that could start a header.
    """
    return bool(_ADDRESS.fullmatch(email)) and email.isprintable()


def is_our_address(email: str, settings: Settings) -> bool:
    """Return whether we take mail for this address ourselves: answering it would be a loop."""
    local, _, domain = email.casefold().rpartition("@")
    plain = f"{local.partition('+')[0]}@{domain}"
    ours = settings.addresses
    return plain in ours or f"@{domain}" in ours or plain == settings.sender.casefold()


@lru_cache(maxsize=4096)  # a workbook names the same few hundred practices in every row
def build_company_key(name: str) -> str:
    """A company's name folded for comparison.

    Case, accents' form, punctuation and spacing do not matter.
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(re.sub(r"[^\w&]+", " ", folded).split())[:400]


class CustomerLookup:
    """Companies and contacts on record, each looked up when it is asked for.

    Bulk.py looks up many at once.
    """

    def __init__(self, session: Session) -> None:
        self.session = session

    def find_company_by_number(self, number: str) -> Company | None:
        """The company with this number, as it is kept."""
        return self.session.scalar(select(Company).where(Company.number == number))

    def find_company_by_key(self, key: str) -> Company | None:
        """The company with this name, folded."""
        return self.session.scalar(select(Company).where(Company.key == key))

    def find_contact(self, email: str) -> Contact | None:
        """The contact with this address, folded."""
        return self.session.scalar(select(Contact).where(Contact.email == email))

    def find_domain(self, name: str) -> CompanyDomain | None:
        """Return whose mail domain it is."""
        return self.session.get(CompanyDomain, name)

    def add(self, new: Company | Contact) -> bool:
        """Put a new one on record; False where another worker was first."""
        try:
            with self.session.begin_nested():
                self.session.add(new)
        except IntegrityError:
            return False
        return True


def find_or_create_company(
    records: CustomerLookup, item: InboundItem, now: datetime
) -> Company | None:
    """The company a request is for: by number, by name, by its contact, by its mail domain.

    A practice that a form, an export or staff name and that is not on record yet is put on record.
    Mail never makes one: a display name is not a practice.
    """
    found = find_named_company(records, item)
    if found is None and item.format is not Format.MAIL and build_company_key(item.company):
        return create_company(records, item.company, item.company_number, now)
    return found or find_company_of_address(records, item.contact.key)


def find_named_company(records: CustomerLookup, item: InboundItem) -> Company | None:
    """The company on record that a request names, by number or by name."""
    return find_company(records, item.company, item.company_number)


def find_company(records: CustomerLookup, name: str, number: str = "") -> Company | None:
    """The company with this number, else with this name."""
    found = _by_number(records, number) or _by_name(records, name)
    if found is not None and number and found.number not in {None, truncate_number(number)}:
        return (
            None  # another practice of the same name: what it writes is not the first one's to read
        )
    return found


def find_company_of_address(records: CustomerLookup, email: str) -> Company | None:
    """The company an address belongs to, by its contact or its domain."""
    contact = records.find_contact(email) if email else None
    if contact is not None and contact.company is not None:
        return contact.company
    domain = records.find_domain(extract_domain(email))
    return domain.company if domain else None


def extract_domain(email: str) -> str:
    """The part of an address behind the @."""
    return email.rpartition("@")[2]


def truncate_number(number: str) -> str:
    """A practice's number as it is kept: a column has its bounds."""
    return number[:_NUMBER]


def build_namesake_key(name: str, number: str) -> str:
    """The key of a practice whose name another one has already: the number tells them apart."""
    return f"{build_company_key(name)[:300]} #{truncate_number(number)}"


def find_domain_fault(session: Session, domain: str, company: Company | None) -> str:
    """Why a mail domain cannot be this company's, whose every sender then belongs to it.

    "" where it can, or is.
    """
    if "." not in domain or not is_valid_address(f"x@{domain}"):
        return f"{domain} is no mail domain"
    if domain in PUBLIC_MAIL_DOMAINS:
        return f"{domain} is not taken: anybody can have mail there"
    known = session.get(CompanyDomain, domain)
    if known is not None and (company is None or known.company_id != company.id):
        return f"{domain} belongs to {known.company.name}"
    return ""


def _by_number(records: CustomerLookup, number: str) -> Company | None:
    return records.find_company_by_number(truncate_number(number)) if number else None


def _by_name(records: CustomerLookup, name: str) -> Company | None:
    key = build_company_key(name)
    return records.find_company_by_key(key) if key else None


def create_company(
    records: CustomerLookup, name: str, number: str, now: datetime
) -> Company | None:
    """Put a practice on record.

    The one that another worker has put there a moment ago, if it was first.
    """
    taken = number and _by_name(records, name) is not None
    key = build_namesake_key(name, number) if taken else build_company_key(name)
    company = Company(
        name=name.strip()[:400], key=key, number=truncate_number(number) or None, created_at=now
    )
    return (
        company if records.add(company) else _by_number(records, number) or _by_name(records, name)
    )


def find_or_create_contact(
    records: CustomerLookup,
    person: Address,
    phone: str,
    company: Company | None,
    *,
    vouched: bool,
    now: datetime,
) -> Contact | None:
    """The contact with this address, put on record if it is new; None without a usable address.

    Only staff (`vouched`) and the mail domain tie a contact to a company: what a form claims is not
    proof.
    """
    if not is_valid_address(person.key):
        return None
    known = records.find_contact(person.key)
    if known is not None:
        if person.name and not known.name:
            known.name = person.name
        if phone and not known.phone:
            known.phone = phone
        if vouched and known.company is None:
            known.company = company
        return known
    contact = Contact(email=person.key, name=person.name, phone=phone, created_at=now)
    ours = company is not None and (vouched or _is_domain_of(records, person.key, company))
    contact.company = company if ours else None
    return contact if records.add(contact) else records.find_contact(person.key)


def _is_domain_of(records: CustomerLookup, email: str, company: Company) -> bool:
    domain = records.find_domain(extract_domain(email))
    return domain is not None and domain.company_id == company.id


def may_join_ticket(session: Session, email: str, ticket: Ticket) -> bool:
    """Return whether mail of this sender may join the ticket.

    A contact on it, the same company, or staff.
    """
    if not email:
        return False
    if any(link.contact.email == email for link in ticket.contacts):
        return True
    if session.scalar(select(Staff.id).where(Staff.email == email)) is not None:
        return True
    company = find_company_of_address(CustomerLookup(session), email)
    return company is not None and company.id == ticket.company_id


def find_staff(session: Session, name: str) -> Staff | None:
    """The person on the desk with this name or address; None for no name."""
    if not name:  # people without an address are many
        return None
    return session.scalar(
        select(Staff).where((Staff.name == name) | (Staff.email == name.casefold())).limit(1)
    )


def find_acting_staff(person: Staff | None, now: datetime) -> Staff | None:
    """Who does this person's work now.

    They themselves, or their cover while they are away (one step, no chains).
    """
    if person is None or person.cover is None:
        return person
    away = person.away_since is not None and person.away_since <= now
    back = person.away_until is not None and now >= person.away_until
    return person.cover if away and not back else person


def deduplicate_addresses(addresses: Iterable[Address]) -> list[Address]:
    """Each address once, in order, those without one dropped."""
    return list({a.key: a for a in addresses if a.key}.values())
