"""Senders of requests: staff, companies and contacts, found or created."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from parsers.item import Address, Format, InboundItem
from workflow.customers import company_names, company_numbers
from workflow.customers.near_names import MAX_NEAR, NamesOnRecord, NearNames
from workflow.models.accounts import Account
from workflow.models.core import (
    IS_NAMESAKE,
    Company,
    CompanyDomain,
    Contact,
    Staff,
    Ticket,
)
from workflow.settings.settings import Settings

_ADDRESS = re.compile(
    r"[^\s@<>,;:\"()\[\]\\\x00-\x1f\x7f]{1,64}@[^\s@<>,;:\"()\[\]\\\x00-\x1f\x7f]{1,255}"
)
_NEAR_CAVEAT = ": the practice is given as "
# Providers where anybody can have mail. Such a domain belongs to no practice: it would let all of
# its senders join the practice's tickets.
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
    protonmail.ch tutamail.com tuta.io mailbox.org posteo.de fastmail.us mailfence.com startmail.com
    hotmail.com.br hotmail.com.mx hotmail.be hotmail.nl live.nl live.be live.it live.com.mx
    outlook.it outlook.com.br outlook.jp yahoo.co.jp yahoo.com.ar yahoo.com.tr yahoo.pl yahoo.se
    yahoo.ie
    bluewin.ch wanadoo.fr sfr.fr bbox.fr virgilio.it tiscali.it alice.it tin.it terra.com.br
    uol.com.br bol.com.br ntlworld.com sky.com talktalk.net virginmedia.com blueyonder.co.uk
    bigpond.com optusnet.com.au xtra.co.nz ziggo.nl kpnmail.nl planet.nl hetnet.nl telenet.be
    skynet.be wp.pl o2.pl onet.pl interia.pl seznam.cz centrum.cz abv.bg ukr.net bk.ru list.ru
    inbox.ru rambler.ru ya.ru hanmail.net daum.net yeah.net sina.com foxmail.com docomo.ne.jp
    ezweb.ne.jp softbank.ne.jp netscape.net compuserve.com lycos.com excite.com mailinator.com
    """.split()  # noqa: SIM905  # a list to be read
)


def is_valid_address(email: str) -> bool:
    """Return whether text is exactly one mail address.

    Nothing in it can end a header line or start another address.
    """
    return bool(_ADDRESS.fullmatch(email)) and email.isprintable()


def is_our_address(email: str, settings: Settings) -> bool:
    """Return whether we take mail for this address: sending mail to it would be a loop."""
    local, _, domain = email.casefold().rpartition("@")
    plain = f"{local.partition('+')[0]}@{domain}"
    ours = settings.addresses
    return plain in ours or f"@{domain}" in ours or plain == settings.sender.casefold()


def is_our_list(name: str, settings: Settings) -> bool:
    """Return whether a mailing list is ours, by its address or its List-Id `a.b.example`.

    It is one of `own_lists`, or a list at the domain of one of our addresses: nobody else has one
    there. A whole domain of ours (`@domain`) is not enough: newsletters have such a name, too.
    """
    if any(name in {own, own.replace("@", ".", 1)} for own in settings.own_lists):
        return True
    domains = {address.rpartition("@")[2] for address in settings.addresses if address[:1] != "@"}
    return any(name.endswith((f"@{own}", f".{own}")) for own in domains - PUBLIC_MAIL_DOMAINS)


def build_company_key(name: str) -> str:
    """Return a company's key, the normal form of its name; "" when it names no practice."""
    return company_names.normalize(name)


_names_on_record = NamesOnRecord()


class CustomerLookup:
    """Lookups of companies and contacts, one query each.

    `filing.bulk_lookup.BulkLookup` answers the same for many items at once.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._names: dict[int, str] | None = None
        self._new_names: NearNames[Company] = NearNames()

    def list_near_companies(self, key: str, without: Company | None = None) -> list[Company]:
        """List the companies with names near to a key; not the one whose own name it is.

        All names are read at the first call: names that are not on record are few.
        """
        if self._names is None:
            with self.session.no_autoflush:
                names = select(Company.id, Company.key).order_by(Company.id)
                self._names = {
                    number: _remove_number(name) for number, name in self.session.execute(names)
                }
        on_record = _names_on_record.find(self._names, key, without.id if without else None)
        new = self._new_names.find(key, without)
        nearest = min(on_record.distance, new.distance)
        found: list[Company] = []
        if on_record.distance == nearest:
            found += [self.session.get_one(Company, number) for number in on_record.values]
        if new.distance == nearest:
            found += new.values
        return list(dict.fromkeys(found))

    def follow_merge(self, company: Company) -> Company:
        """Return the company that goes on for one that was merged; itself where it was not."""
        while company.merged_into_id is not None:
            company = self.session.get_one(Company, company.merged_into_id)
        return company

    def find_company_by_number(self, number: str) -> Company | None:
        """Find the company with this number, as `company_numbers.normalize` gives it.

        Whatever became of its zeros: 471 is 00471, unless both are on record or several are.
        """
        exact = self.session.scalar(select(Company).where(Company.number == number))
        if exact is not None or not company_numbers.is_plain(number):
            return exact
        folded = company_numbers.fold(number)
        same = select(Company).where(func.ltrim(Company.number, "0") == folded)
        candidates = self.session.scalars(same.limit(2)).all()
        return candidates[0] if len(candidates) == 1 else None

    def find_company_by_key(self, key: str) -> Company | None:
        """Find the company with this key, as `build_company_key` gives it."""
        return self.session.scalar(select(Company).where(Company.key == key))

    def list_namesakes(self, key: str) -> list[Company]:
        """List the companies whose name another one had first; `key` is the normal form of it."""
        same = Company.key.startswith(f"{key} #", autoescape=True)
        return list(self.session.scalars(select(Company).where(IS_NAMESAKE, same)))

    def find_contact(self, email: str) -> Contact | None:
        """Find the contact with this address in lower case, or who goes on for them."""
        contact = self.session.scalar(select(Contact).where(Contact.email == email))
        return self.follow_contact_merge(contact) if contact is not None else None

    def follow_contact_merge(self, contact: Contact) -> Contact:
        """Return the contact who goes on for one that was merged; themselves where not."""
        while contact.merged_into_id is not None:
            contact = self.session.get_one(Contact, contact.merged_into_id)
        return contact

    def find_domain(self, name: str) -> CompanyDomain | None:
        """Find the record of a mail domain, which names its company."""
        return self.session.get(CompanyDomain, name)

    def add(self, new: Company | Contact) -> bool:
        """Insert a record; False when another worker has inserted the same one first."""
        try:
            with self.session.begin_nested():
                self.session.add(new)
        except IntegrityError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class CompanyMatch:
    """The company of a request, or those that it perhaps is for, the nearest first."""

    company: Company | None
    near: tuple[Company, ...] = ()


def find_or_create_company(
    records: CustomerLookup, item: InboundItem, now: datetime
) -> CompanyMatch:
    """Find the company a request is for: by number, name, contact or mail domain, in this order.

    A practice named by a form, an export or staff is created when there is no record of it, nor of
    one with a near name: then a person decides. Mail never creates one, because a display name is
    not a practice.
    """
    if item.format is Format.MAIL:
        match = CompanyMatch(find_named_company(records, item))
    else:
        match = find_or_create_named(records, item.company, item.company_number, now)
    if match.company is not None:
        return match
    owner = find_company_of_address(records, item.contact.key)
    if not match.near or (owner in match.near and _has_name(owner, item.company)):
        return CompanyMatch(owner)
    return match


def find_or_create_named(
    records: CustomerLookup, name: str, number: str, now: datetime
) -> CompanyMatch:
    """Find the company with this number or name, or create it.

    Neither where a near name is there, or where a name alone is that of several companies. Without
    a name nothing is created.
    """
    company = find_company(records, name, number)
    if company is not None and (several := _list_of_same_name(records, company, name, number)):
        return CompanyMatch(None, several)
    if company is not None or not build_company_key(name):
        return CompanyMatch(company)
    if near := find_near_companies(records, name, number):
        return CompanyMatch(None, tuple(near))
    return CompanyMatch(create_company(records, name, number, now))


def _list_of_same_name(
    records: CustomerLookup, company: Company, name: str, number: str
) -> tuple[Company, ...]:
    """List the companies that a name alone may mean, `company` first; none if it is clear."""
    if company.number is None or company_numbers.normalize(number):
        return ()  # only numbers tell practices of one name apart
    namesakes = records.list_namesakes(build_company_key(name))
    several = dict.fromkeys(map(records.follow_merge, (company, *namesakes)))
    return tuple(several)[:MAX_NEAR] if len(several) > 1 else ()


def _has_name(company: Company | None, name: str) -> bool:
    return company is not None and build_company_key(company.name) == build_company_key(name)


def find_near_companies(records: CustomerLookup, name: str, number: str = "") -> list[Company]:
    """Find the companies that one with this name and number perhaps is, `MAX_NEAR` at most.

    None with another number. Empty, too, where one has this very name: that is another practice.
    """
    key = build_company_key(name)
    if not key or records.find_company_by_key(key) is not None:
        return []
    found: dict[int, Company] = {}
    for company in records.list_near_companies(key):
        if _has_other_number(records, company, number):
            continue
        company = records.follow_merge(company)  # noqa: PLW2901  # the one that goes on
        found.setdefault(id(company), company)
    return list(found.values())[:MAX_NEAR]


def list_near_records(records: CustomerLookup, company: Company) -> list[Company]:
    """List the companies with a name near to that of one on record, `MAX_NEAR` at most.

    Those with another number are others.
    """
    found: list[Company] = []
    for other in records.list_near_companies(build_company_key(company.name), company):
        other = records.follow_merge(other)  # noqa: PLW2901  # the one that goes on
        if other is not company and not _has_other_number(records, other, company.number or ""):
            found.append(other)
    return list(dict.fromkeys(found))[:MAX_NEAR]


def describe_company(company: Company) -> str:
    """Return a company's name, with its number where it has one."""
    return f"{company.name} (no. {company.number})" if company.number else company.name


def make_near_caveat(name: str, near: Iterable[Company]) -> str:
    """Return the caveat of a ticket whose practice has a name near to those of others."""
    return f"perhaps {' or '.join(map(describe_company, near))}{_NEAR_CAVEAT}“{name.strip()}”"


def is_near_caveat(caveat: str) -> bool:
    """Return whether a caveat is one that `make_near_caveat` returns."""
    return caveat.startswith("perhaps ") and _NEAR_CAVEAT in caveat


def find_named_company(records: CustomerLookup, item: InboundItem) -> Company | None:
    """Find the company that a request names, by number or by name."""
    return find_company(records, item.company, item.company_number)


def find_company(records: CustomerLookup, name: str, number: str = "") -> Company | None:
    """Find the company with this number, else with this name."""
    company = _find_by_number(records, number) or _find_by_name(records, name)
    if company is None:
        return None
    if _has_other_number(records, company, number):
        # Another practice of the same name. Its messages must not be shown to the first one.
        return None
    return records.follow_merge(company)


def _has_other_number(records: CustomerLookup, company: Company, number: str) -> bool:
    """Return whether a company is on record with a number, but not with this one.

    A merged company has its own number and that of the one that goes on.
    """
    numbers = {company.number, records.follow_merge(company).number} - {None}
    known = {company_numbers.fold(own) for own in numbers if own is not None}
    number = company_numbers.normalize(number)
    return bool(number and known) and company_numbers.fold(number) not in known


def _remove_number(key: str) -> str:
    """Return the normal form of the name in a company's key, which may end with a number."""
    return key.partition(" #")[0]


def find_company_of_address(records: CustomerLookup, email: str) -> Company | None:
    """Find the company an address belongs to, by its contact or its domain."""
    contact = records.find_contact(email) if email else None
    if contact is not None and contact.company is not None:
        return contact.company
    domain = records.find_domain(extract_domain(email))
    return domain.company if domain else None


def extract_domain(email: str) -> str:
    """Return the part of an address after the @; "" when it has none."""
    return email.rpartition("@")[2]


def fold_address(email: str) -> str:
    """Return an address as budgets and rules know it: case folded, without `+tag`."""
    local, at, domain = email.strip().casefold().rpartition("@")
    return f"{local.partition('+')[0] or local}{at}{domain}"


def build_namesake_key(name: str, number: str) -> str:
    """Return the key of a practice whose name another one has: the name with the number."""
    return f"{build_company_key(name)[:300]} #{company_numbers.normalize(number)}"


def is_namesake(company: Company) -> bool:
    """Return whether a company was created beside another one of the same name."""
    return company.key != build_company_key(company.name)


def find_domain_fault(session: Session, domain: str, company: Company | None) -> str:
    """Return why a mail domain cannot be given to this company; "" when it can, or is already.

    Every sender with a company's domain belongs to the company.
    """
    if "." not in domain or not is_valid_address(f"x@{domain}"):
        return f"{domain} is no mail domain"
    if domain in PUBLIC_MAIL_DOMAINS:
        return f"{domain} is not taken: anybody can have mail there"
    owned = session.get(CompanyDomain, domain)
    if owned is not None and (company is None or owned.company_id != company.id):
        return f"{domain} belongs to {owned.company.name}"
    return ""


def _find_by_number(records: CustomerLookup, number: str) -> Company | None:
    number = company_numbers.normalize(number)
    return records.find_company_by_number(number) if number else None


def _find_by_name(records: CustomerLookup, name: str) -> Company | None:
    key = build_company_key(name)
    return records.find_company_by_key(key) if key else None


def create_company(
    records: CustomerLookup, name: str, number: str, now: datetime
) -> Company | None:
    """Create a company, or return the one that another worker has created a moment ago."""
    name, number = company_names.clean(name), company_numbers.normalize(number)
    is_namesake = number and _find_by_name(records, name) is not None
    key = build_namesake_key(name, number) if is_namesake else build_company_key(name)
    company = Company(name=name, key=key, number=number or None, created_at=now)
    if records.add(company):
        return company
    other = _find_by_number(records, number) or _find_by_name(records, name)
    return records.follow_merge(other) if other is not None else None


def find_or_create_contact(
    records: CustomerLookup,
    person: Address,
    phone: str,
    company: Company | None,
    *,
    is_confirmed: bool,
    now: datetime,
) -> Contact | None:
    """Find the contact with this address and fill its gaps, or create it.

    None when the address is not valid. A contact is connected with a company only if staff have
    confirmed it (`is_confirmed`) or by the mail domain: what a form claims is no proof.
    """
    if not is_valid_address(person.key):
        return None
    contact = records.find_contact(person.key)
    if contact is not None:
        if person.name and not contact.name:
            contact.name = person.name
        if phone and not contact.phone:
            contact.phone = phone
        if is_confirmed and contact.company is None:
            contact.company = company
        return contact
    contact = Contact(email=person.key, name=person.name, phone=phone, created_at=now)
    if company is not None and (is_confirmed or _is_domain_of(records, person.key, company)):
        contact.company = company
    return contact if records.add(contact) else records.find_contact(person.key)


def _is_domain_of(records: CustomerLookup, email: str, company: Company) -> bool:
    domain = records.find_domain(extract_domain(email))
    return domain is not None and domain.company_id == company.id


def may_join_ticket(session: Session, email: str, ticket: Ticket) -> bool:
    """Return whether mail of this sender may join the ticket.

    True for its contacts, senders of its company, and staff; and for people of a contact's mail
    domain, as long as no company on record has it and not anybody can have mail there.
    """
    if not email:
        return False
    if any(link.contact.email == email for link in ticket.contacts):
        return True
    if session.scalar(select(Staff.id).where(Staff.email == email)) is not None:
        return True
    lookup = CustomerLookup(session)
    contact = lookup.find_contact(email)  # perhaps by another address of theirs
    if contact is not None and any(link.contact_id == contact.id for link in ticket.contacts):
        return True
    company = find_company_of_address(lookup, email)
    if company is not None:
        return company.id == ticket.company_id
    return _is_colleague_of_contact(email, ticket)


def _is_colleague_of_contact(email: str, ticket: Ticket) -> bool:
    """Return whether an address has the mail domain of a contact of the ticket, and no public one.

    At the beginning no domain of a practice is on record.
    """
    domain = extract_domain(email)
    if not domain or domain in PUBLIC_MAIL_DOMAINS:
        return False
    return any(extract_domain(link.contact.email) == domain for link in ticket.contacts)


def find_staff(session: Session, name: str) -> Staff | None:
    """Find the member of staff with this name or address; None for ""."""
    if not name:  # several people may have no address
        return None
    return session.scalar(
        select(Staff).where((Staff.name == name) | (Staff.email == name.casefold())).limit(1)
    )


def has_left(session: Session, person: Staff | None) -> bool:
    """Return whether a person cannot sign in any more: their account is deactivated.

    Somebody without an account has not left: a group that takes tasks never has one.
    """
    if person is None:
        return False
    ended = select(Account.id).where(Account.staff_id == person.id, Account.active.is_(False))
    return session.scalar(ended.limit(1)) is not None


def list_left(session: Session) -> set[int]:
    """Return the ids of the people who have left."""
    return set(session.scalars(select(Account.staff_id).where(Account.active.is_(False))))


def list_all_staff(session: Session) -> list[tuple[Staff, bool]]:
    """Return everybody by name, and whether they have left, in one query."""
    rows = select(Staff, Account.active).outerjoin(Account, Account.staff_id == Staff.id)
    return [
        (person, is_active is False)
        for person, is_active in session.execute(rows.order_by(Staff.name))
    ]


def select_present_staff() -> Select[Staff]:
    """Return the query of the people who can be chosen for work, by name: all who have not left."""
    ended = select(Account.staff_id).where(Account.active.is_(False))
    return select(Staff).where(Staff.id.not_in(ended)).order_by(Staff.name)


def find_acting_staff(person: Staff | None, now: datetime) -> Staff | None:
    """Return who does this person's work now: their cover while they are away, else they.

    One step only: where the cover is away too, the work stays with the cover.
    """
    if person is None or person.cover is None:
        return person
    away = person.away_since is not None and person.away_since <= now
    back = person.away_until is not None and now >= person.away_until
    return person.cover if away and not back else person


def deduplicate_addresses(addresses: Iterable[Address]) -> list[Address]:
    """Return each address once, in order, without those that are empty."""
    return list({a.key: a for a in addresses if a.key}.values())
