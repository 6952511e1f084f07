"""Errors that people read: an action was refused, and the text says why or what to do first."""


class Missing(Exception):  # noqa: N818  # it is what the answer lacks, not a fault of the program
    """The action cannot be carried out; the text says why, for whoever asked for it."""


class AcrossCompanies(Missing):
    """The action would bring two companies together, which a person has to confirm.

    The text names both companies.
    """
