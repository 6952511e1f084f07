"""Schemas of the API's answers.

The same shapes as `--json` of the commands, field by field: a test compares the two. The classes'
names are those of the schemas in the OpenAPI document.
"""

from marshmallow import Schema, fields

from console.api.fields import (
    boolean_field,
    integer_field,
    list_field,
    nullable_text_field,
    text_field,
    text_list_field,
    time_field,
)


class TicketSummary(Schema):
    """A ticket in a list."""

    id = integer_field()
    name = text_field()
    subject = text_field()
    stage = text_field()
    status = text_field()
    owner = nullable_text_field()
    company = nullable_text_field()
    source = text_field()
    format = text_field()
    created_at = time_field()
    due_at = time_field(null=True)
    caveats = text_list_field()


class NearCompany(Schema):
    """A company that the practice of a ticket perhaps is."""

    id = integer_field()
    name = text_field()
    number = nullable_text_field()


class CompanyOfTicket(Schema):
    """The company of a ticket."""

    id = integer_field()
    name = text_field()
    manager = nullable_text_field()


class ContactOfTicket(Schema):
    """A contact on a ticket."""

    name = text_field()
    email = text_field()
    share_activity = boolean_field()


class ReachedMilestone(Schema):
    """A milestone that was reached."""

    at = time_field()
    by = text_field()
    note = text_field()


class Deadline(Schema):
    """A deadline of a ticket."""

    milestone = text_field()
    due_at = time_field()
    raised = boolean_field()


class TaskOfTicket(Schema):
    """A task of a ticket."""

    id = integer_field()
    text = text_field()
    assignee = text_field()
    milestone = nullable_text_field()
    done = boolean_field()
    cause = text_field()
    created_at = time_field()


class Attachment(Schema):
    """A file of a message."""

    id = integer_field()
    name = text_field()
    mime = text_field()
    size = integer_field()
    sha256 = text_field()
    inline = boolean_field()


class FileOfMessage(Schema):
    """A file of an attached message."""

    name = text_field()
    mime = text_field()
    size = integer_field()
    sha256 = text_field()


class AttachedMessage(Schema):
    """A message in a file."""

    sender = text_field(data_key="from")
    to = text_list_field()
    cc = text_list_field()
    subject = text_field()
    sent_at = time_field(null=True)
    text = text_field()
    attachments = list_field(FileOfMessage)
    caveats = text_list_field()


class DeliveryNumber(Schema):
    """The delivery that something is stored as."""

    delivery = integer_field()


class LinkedFile(Schema):
    """A file that a message links to."""

    url = text_field()
    state = text_field()
    reason = text_field()
    attachment = fields.Integer(required=True, allow_none=True)


class Message(Schema):
    """An item of a ticket's timeline."""

    id = integer_field()
    at = time_field()
    direction = text_field(metadata={"description": "in, out or note"})
    sender = text_field(data_key="from")
    to = text_list_field()
    cc = text_list_field()
    route = text_field(
        metadata={
            "description": "how it came where somebody else than the customer sent it: forwarded, "
            "reply-to, relay (a web form, fax or portal) or group; empty where the customer did"
        }
    )
    sent_by = text_field(metadata={"description": "who sent it then"})
    customer = text_field(metadata={"description": "the address that was taken for the customer's"})
    phone = text_field(
        metadata={
            "description": "As given with this message; the contact's record may have another."
        }
    )
    subject = text_field()
    text = text_field()
    reply_text = text_field()
    details = fields.List(fields.List(fields.String()), required=True)
    caveats = text_list_field()
    judgement = text_field(
        metadata={
            "description": "kind of machine-written message it was taken for (automatic, bounced "
            "…); empty for a person's message"
        }
    )
    signs = text_list_field()
    attachments = list_field(Attachment)
    linked_files = list_field(LinkedFile)


class AutomatedMail(Schema):
    """A mail that is on no ticket."""

    id = integer_field()
    delivery = integer_field()
    at = time_field()
    sender = text_field(data_key="from")
    subject = text_field()
    text = text_field()
    reason = text_field()
    signs = text_list_field()
    ticket = fields.Integer(required=True, allow_none=True)


class OutboxMail(Schema):
    """A mail in the outbox."""

    id = integer_field()
    template = text_field()
    to = text_field()
    state = text_field()
    reason = text_field()
    sent_at = time_field(null=True)
    message_id = text_field()


class RelatedTicket(Schema):
    """Another ticket that may belong to this one."""

    id = integer_field()
    reason = text_field()


class Copied(Schema):
    """A person in To or Cc of a message of the ticket, who is no contact of it."""

    name = text_field()
    email = text_field()


class Ticket(Schema):
    """A ticket with everything on it."""

    id = integer_field()
    name = text_field()
    subject = text_field()
    pipeline = text_field()
    type = text_field()
    stage = text_field()
    status = text_field()
    resolution = nullable_text_field()
    owner = nullable_text_field()
    company = fields.Nested(CompanyOfTicket, required=True, allow_none=True)
    named_company = text_field()
    near_companies = list_field(NearCompany)
    contacts = list_field(ContactOfTicket)
    copied = list_field(Copied)
    source = text_field()
    format = text_field()
    link = text_field()
    telemedicine = boolean_field()
    created_at = time_field()
    completed_at = time_field(null=True)
    period = integer_field()
    milestones = fields.Dict(
        keys=fields.String(), values=fields.Nested(ReachedMilestone), required=True
    )
    missing = text_list_field()
    deadlines = list_field(Deadline)
    tasks = list_field(TaskOfTicket)
    messages = list_field(Message)
    outbox = list_field(OutboxMail)
    deliveries = fields.List(fields.Integer(), required=True)
    caveats = text_list_field()
    related = list_field(RelatedTicket)
    merged_into = fields.Integer(required=True, allow_none=True)


class StoredCall(Schema):
    """A phone call that is stored but not on a ticket yet: do not send it again."""

    detail = text_field()


class Task(TaskOfTicket):
    """A task with its ticket and who finished it."""

    ticket = integer_field()
    done_at = time_field(null=True)
    done_by = nullable_text_field()


class Company(Schema):
    """A company: a medical practice."""

    id = integer_field()
    name = text_field()
    number = nullable_text_field()
    manager = nullable_text_field()
    consultant = nullable_text_field()
    domains = text_list_field()
    merged_into = fields.Integer(required=True, allow_none=True)


class Contact(Schema):
    """A contact: a person who writes for a customer."""

    id = integer_field()
    email = text_field()
    name = text_field()
    phone = text_field()
    company = fields.Integer(required=True, allow_none=True)
    unreachable = boolean_field()
    unsubscribed = boolean_field()
    merged_into = fields.Integer(required=True, allow_none=True)


class StaffMember(Schema):
    """A person on the desk."""

    id = integer_field()
    name = text_field()
    role = text_field()
    email = text_field()


class Delivery(Schema):
    """A delivery as one channel handed it over."""

    id = integer_field()
    transport = text_field()
    format = text_field()
    size = integer_field()
    state = text_field()
    reason = text_field()
    received_at = time_field()
    age_seconds = integer_field()
    processed_at = time_field(null=True)
    attempts = integer_field()
    items = integer_field()
    filed = integer_field()
    rejected = integer_field()
    name = text_field()
    tickets = fields.List(fields.Integer(), required=True)


class Receipt(Schema):
    """A time that a channel handed a delivery over."""

    at = time_field()
    transport = text_field()
    repeated = boolean_field()
    reference = text_field()


class Filing(Schema):
    """Result of filing one item of a delivery."""

    item = integer_field()
    outcome = text_field()
    ticket = fields.Integer(required=True, allow_none=True)
    message = fields.Integer(required=True, allow_none=True)
    reason = text_field()


class SheetCounts(Schema):
    """Number of rows of a sheet by what they were read as.

    Places are row numbers as Excel counts them.
    """

    sheet = text_field()
    hidden = boolean_field()
    rows = integer_field()
    items = integer_field()
    repeated = integer_field()
    rejected = integer_field()
    continued = integer_field()
    headings = integer_field()
    titles = integer_field()
    footers = integer_field()
    blank = integer_field()
    hidden_rows = integer_field()
    heading_places = text_field()
    title_places = text_field()
    footer_places = text_field()
    accounted = integer_field()
    in_words = text_field()


class DeliveryDetails(Delivery):
    """A delivery with its receipts and the results of its items."""

    digest = text_field()
    blob = nullable_text_field()
    envelope = fields.Dict(required=True)
    receipts = list_field(Receipt)
    filings = list_field(Filing)
    sheets = list_field(SheetCounts)


class Status(Schema):
    """State of the system; `ok` is true when nothing needs attention.

    More fields: see `intake status --json`.
    """

    class Meta:
        """Marshmallow's options."""

        unknown = "include"

    ok = boolean_field()
    needs = text_list_field()
    at = time_field()


class AuditEntry(Schema):
    """An entry of the audit log."""

    id = integer_field()
    at = time_field()
    actor = text_field()
    action = text_field()
    cause = text_field()
    ticket = fields.Integer(required=True, allow_none=True)
    detail = fields.Dict(required=True)


class Figure(Schema):
    """A figure of the dashboard: a table of numbers."""

    name = text_field()
    title = text_field()
    heads = text_list_field()
    rows = fields.List(fields.List(fields.Raw(allow_none=True)), required=True)
    unit = text_field()


class FigureName(Schema):
    """Name of a figure."""

    name = text_field()


class Webhook(Schema):
    """A webhook."""

    id = integer_field()
    url = text_field()
    events = text_list_field()
    created_at = time_field()
    created_by = text_field()
    told_at = time_field(null=True)
    fault = text_field()
    failing_since = time_field(null=True)
    waiting = integer_field()
    given_up = integer_field()


class WebhookWithSecret(Webhook):
    """A new webhook with its signing secret, which is shown only once."""

    secret = text_field()


class Report(Schema):
    """A report with the fields of the command's `--json`."""

    class Meta:
        """Marshmallow's options."""

        unknown = "include"


def make_page_schema(schema: type[Schema]) -> type[Schema]:
    """Return the schema of a page of a list of such objects."""
    next_cursor = nullable_text_field(
        metadata={"description": "The cursor of the next page; null on the last one."}
    )
    return Schema.from_dict(
        {"items": list_field(schema), "next": next_cursor}, name=f"{schema.__name__}Page"
    )
