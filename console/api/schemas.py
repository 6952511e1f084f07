"""What the API's answers look like.

The shapes of `--json`, field by field (a test holds them together).
"""

from marshmallow import Schema, fields

from console.api.fields import count, many, maybe, moment, said, texts, yes


class TicketShort(Schema):
    """A ticket in a list."""

    id = count()
    name = said()
    subject = said()
    stage = said()
    status = said()
    owner = maybe()
    company = maybe()
    source = said()
    format = said()
    created_at = moment()
    due_at = moment(null=True)
    caveats = texts()


class CompanyOfTicket(Schema):
    """The company of a ticket."""

    id = count()
    name = said()
    manager = maybe()


class ContactOfTicket(Schema):
    """A contact on a ticket."""

    name = said()
    email = said()
    share_activity = yes()


class Reached(Schema):
    """A milestone that was reached."""

    at = moment()
    by = said()
    note = said()


class Due(Schema):
    """A deadline of a ticket."""

    milestone = said()
    due_at = moment()
    raised = yes()


class TaskOfTicket(Schema):
    """A task of a ticket."""

    id = count()
    text = said()
    assignee = said()
    milestone = maybe()
    done = yes()
    cause = said()
    created_at = moment()


class Attachment(Schema):
    """A file of a message."""

    id = count()
    name = said()
    mime = said()
    size = count()
    sha256 = said()
    inline = yes()


class LinkedFile(Schema):
    """A file that a message links to."""

    url = said()
    state = said()
    reason = said()
    attachment = fields.Integer(required=True, allow_none=True)


class Message(Schema):
    """An item of a ticket's timeline."""

    id = count()
    at = moment()
    direction = said(metadata={"description": "in, out or note"})
    sender = said(data_key="from")
    phone = said(
        metadata={"description": "As given with this message; a contact's record may have another."}
    )
    subject = said()
    text = said()
    reply_text = said()
    details = fields.List(fields.List(fields.String()), required=True)
    caveats = texts()
    judgement = said(
        metadata={
            "description": "what it was taken for that nobody wrote by hand (automatic, bounced "
            "…); empty for a person's message"
        }
    )
    signs = texts()
    attachments = many(Attachment)
    linked_files = many(LinkedFile)


class AutomatedMail(Schema):
    """A mail that is on no ticket."""

    id = count()
    delivery = count()
    at = moment()
    sender = said(data_key="from")
    subject = said()
    text = said()
    reason = said()
    signs = texts()
    ticket = fields.Integer(required=True, allow_none=True)


class Mail(Schema):
    """A mail that was promised."""

    id = count()
    template = said()
    to = said()
    state = said()
    reason = said()
    sent_at = moment(null=True)
    message_id = said()


class Related(Schema):
    """Another ticket that may belong to this one."""

    id = count()
    reason = said()


class Ticket(Schema):
    """A ticket with all that is on it."""

    id = count()
    name = said()
    subject = said()
    pipeline = said()
    type = said()
    stage = said()
    status = said()
    resolution = maybe()
    owner = maybe()
    company = fields.Nested(CompanyOfTicket, required=True, allow_none=True)
    contacts = many(ContactOfTicket)
    source = said()
    format = said()
    link = said()
    telemedicine = yes()
    created_at = moment()
    completed_at = moment(null=True)
    period = count()
    milestones = fields.Dict(keys=fields.String(), values=fields.Nested(Reached), required=True)
    missing = texts()
    deadlines = many(Due)
    tasks = many(TaskOfTicket)
    messages = many(Message)
    outbox = many(Mail)
    deliveries = fields.List(fields.Integer(), required=True)
    caveats = texts()
    related = many(Related)
    merged_into = fields.Integer(required=True, allow_none=True)


class Stored(Schema):
    """A call that is stored and not read yet: do not send it again."""

    detail = said()


class Task(TaskOfTicket):
    """A task, wherever it is."""

    ticket = count()
    done_at = moment(null=True)
    done_by = maybe()


class Company(Schema):
    """A practice on record."""

    id = count()
    name = said()
    number = maybe()
    manager = maybe()
    consultant = maybe()
    domains = texts()


class Contact(Schema):
    """A customer's person on record."""

    id = count()
    email = said()
    name = said()
    phone = said()
    company = fields.Integer(required=True, allow_none=True)
    unreachable = yes()
    unsubscribed = yes()


class Person(Schema):
    """Somebody on the desk."""

    id = count()
    name = said()
    role = said()
    email = said()


class Delivery(Schema):
    """What came in through a door."""

    id = count()
    transport = said()
    format = said()
    size = count()
    state = said()
    reason = said()
    received_at = moment()
    age_seconds = count()
    processed_at = moment(null=True)
    attempts = count()
    items = count()
    filed = count()
    rejected = count()
    name = said()
    tickets = fields.List(fields.Integer(), required=True)


class Receipt(Schema):
    """Each time a door handed it over."""

    at = moment()
    transport = said()
    repeated = yes()
    reference = said()


class Filing(Schema):
    """What has become of an item."""

    item = count()
    outcome = said()
    ticket = fields.Integer(required=True, allow_none=True)
    message = fields.Integer(required=True, allow_none=True)
    reason = said()


class SheetRead(Schema):
    """What the rows of a sheet of a workbook were read as.

    Places are row numbers as Excel counts them.
    """

    sheet = said()
    hidden = yes()
    rows = count()
    items = count()
    repeated = count()
    rejected = count()
    headings = count()
    titles = count()
    footers = count()
    blank = count()
    hidden_rows = count()
    heading_places = said()
    title_places = said()
    footer_places = said()
    accounted = count()
    in_words = said()


class DeliveryWhole(Delivery):
    """A delivery, with how it came and what has become of it."""

    digest = said()
    blob = maybe()
    envelope = fields.Dict(required=True)
    receipts = many(Receipt)
    filings = many(Filing)
    sheets = many(SheetRead)


class Status(Schema):
    """The state of the house; `ok` is true when no person is needed.

    More fields: see `intake status --json`.
    """

    class Meta:
        """Marshmallow's own."""

        unknown = "include"

    ok = yes()
    needs = texts()
    at = moment()


class Change(Schema):
    """A row of the audit trail."""

    id = count()
    at = moment()
    actor = said()
    action = said()
    cause = said()
    ticket = fields.Integer(required=True, allow_none=True)
    detail = fields.Dict(required=True)


class Figure(Schema):
    """A table of numbers."""

    name = said()
    title = said()
    heads = texts()
    rows = fields.List(fields.List(fields.Raw(allow_none=True)), required=True)
    unit = said()


class FigureName(Schema):
    """Which figures there are."""

    name = said()


class Hook(Schema):
    """A webhook."""

    id = count()
    url = said()
    events = texts()
    created_at = moment()
    created_by = said()
    told_at = moment(null=True)
    fault = said()
    failing_since = moment(null=True)
    waiting = count()
    given_up = count()


class HookMade(Hook):
    """A webhook with the secret that signs: shown this once."""

    secret = said()


class Anything(Schema):
    """A report: its fields are those of the command's --json."""

    class Meta:
        """Marshmallow's own."""

        unknown = "include"


def page_of(schema: type[Schema]) -> type[Schema]:
    """A page of a list of these."""
    items, following = (
        many(schema),
        maybe(metadata={"description": "The cursor of the next page; null at the end."}),
    )
    return Schema.from_dict({"items": items, "next": following}, name=f"{schema.__name__}Page")
