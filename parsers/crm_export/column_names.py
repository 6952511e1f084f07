"""Names of the columns in a CRM's exports: labels and internal names, by property of ours.

Names are folded by `normalize.fold_label`. Source: HubSpot's public API specification and the
labels of its exports; the milestones are the boxes of the operations manual.
"""

# A property -> the headings its column may have, the one that leaves least doubt first.
ColumnNames = dict[str, tuple[str, ...]]

TICKETS: ColumnNames = {
    "record_id": (
        "record id",
        "record id tickets",
        "record id ticket",
        "hs object id",
        "hs ticket id",
        "ticket id",
        "id",
    ),
    "name": ("ticket name", "subject", "name"),
    "subject": ("original subject",),
    "text": ("ticket description", "content", "description"),
    "pipeline": ("pipeline", "hs pipeline", "ticket pipeline"),
    "stage": (
        "ticket status",
        "hs pipeline stage",
        "status",
        "ticket stage",
        "pipeline stage",
        "stage",
    ),
    "state": ("state",),
    "owner": ("ticket owner", "hubspot owner id", "ticket owner email", "owner", "owner email"),
    "type": ("category", "hs ticket category", "ticket type", "type"),
    "priority": ("priority", "hs ticket priority"),
    "source": ("source", "source type"),
    "created": (
        "create date",
        "createdate",
        "created at",
        "created",
        "created date",
        "hs createdate",
    ),
    "closed": ("close date", "closed date", "closedate", "closed at", "closed", "completed at"),
    "modified": ("last modified date", "hs lastmodifieddate", "updated at", "last activity date"),
    "company": (
        "associated company",
        "associated company primary",
        "company name",
        "company",
        "practice name",
        "practice",
    ),
    "company_number": (
        "company number",
        "practice number",
        "practice id",
        "kareo practice id",
        "kareo id",
    ),
    "contact": ("associated contact", "contact name", "contact"),
    "contact_emails": (
        "associated contact emails",
        "associated contact email",
        "contact emails",
        "contact email",
        "email",
    ),
    "phone": ("contact phone", "contact phone number", "phone number", "phone"),
    "link": ("link", "submission link", "formstack link"),
    "actions": ("actions", "ticket actions"),
    "resolution": ("resolution",),
    "customer_notified": ("customer notified",),
    "follow_up_sent": ("4 support follow up sent", "support follow up sent"),
    "resolved": ("resolved at",),
    "recap_sent": ("5 recap of resolution sent", "recap of resolution sent"),
}

COMPANIES: ColumnNames = {
    "name": ("company name", "practice name", "name", "company", "practice"),
    "number": (
        "company number",
        "practice number",
        "practice id",
        "kareo practice id",
        "kareo id",
        "number",
    ),
    "domains": (
        "company domain name",
        "domain",
        "domains",
        "mail domain",
        "mail domains",
        "additional domains",
        "hs additional domains",
    ),
    "manager": ("manager", "company manager", "account manager"),
    "consultant": ("operations consultant", "ops consultant", "consultant"),
}

CONTACTS: ColumnNames = {
    "email": ("email", "e mail", "email address", "e mail address", "contact email"),
    "name": ("name", "full name", "contact name", "contact"),
    "first_name": ("first name", "firstname"),
    "last_name": ("last name", "lastname", "surname"),
    "phone": ("phone number", "phone", "mobile phone number", "mobilephone", "telephone"),
    "company": (
        "company name",
        "company",
        "associated company",
        "associated company primary",
        "practice name",
        "practice",
    ),
    "company_number": (
        "company number",
        "practice number",
        "practice id",
        "kareo practice id",
        "kareo id",
    ),
}
