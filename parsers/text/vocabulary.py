"""Words by which forms and workbooks name the same things: practice, number, address, phone.

All are folded by `normalize.fold_label`, the one with least doubt first. Forms and workbooks add
words that only one of them has; a word that means the same in both goes in here.
"""

COMPANY = (
    "practice name",
    "practice",
    "company name",
    "company",
    "client name",
    "client",
    "customer name",
    "customer",
    "clinic name",
    "clinic",
    "account name",
    "organization",
    "organisation",
    "organization name",
    "facility",
    "facility name",
    "business name",
    "office name",
    "office",
)
COMPANY_NUMBER = (
    "practice id",
    "practice number",
    "practice no",
    "kareo practice id",
    "kareo id",
    "company id",
    "company number",
    "client id",
    "customer id",
    "customer number",
    "account id",
    "account number",
    "account no",
    "account",
)
EMAIL = (
    "contact email",
    "contact email address",
    "email address",
    "email",
    "e mail",
    "e mail address",
)
PHONE = (
    "phone",
    "phone number",
    "contact phone",
    "contact phone number",
    "callback",
    "callback number",
    "call back number",
    "telephone",
    "telephone number",
    "mobile",
    "cell phone",
)
