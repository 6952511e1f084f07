"""Flask-Security's user datastore over our accounts table."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from flask_security import RoleMixin, UserDatastore, UserMixin
from sqlalchemy import select, update
from sqlalchemy.orm import joinedload

from workflow.audit import record as audit
from workflow.context import AppContext
from workflow.models.accounts import Account
from workflow.models.core import Staff
from workflow.runtime import log

# In a row, then the account is locked: guessing takes years, mistyping costs 15 minutes.
MAX_FAILURES = 5
LOCK_DURATION = timedelta(minutes=15)
LOCKED_MESSAGE = (
    f"Sign-in does not work now. Wait {LOCK_DURATION // timedelta(minutes=1)} minutes,"
    " or ask an admin."
)


@dataclass
class Group(RoleMixin):
    """A role as the library expects it."""

    name: str
    permissions: list[str] | None = None


@dataclass(eq=False)
class User(UserMixin):
    """An account for the length of a request; names of fields are the library's."""

    context: AppContext = field(repr=False)
    id: int = 0
    email: str = ""
    password: str | None = field(default=None, repr=False)
    active: bool = True
    fs_uniquifier: str = field(default="", repr=False)
    tf_primary_method: str | None = None
    tf_totp_secret: str | None = field(default=None, repr=False)
    tf_phone_number: str | None = None
    mf_recovery_codes: list[str] = field(default_factory=list, repr=False)
    locked_until: datetime | None = None
    staff: Staff | None = None
    time_zone: str = ""

    @property
    # a person has one role, stored with the staff record
    def roles(self) -> list[RoleMixin]:  # type: ignore[override]
        """Return the one role of the person."""
        return [Group(self.staff.role)] if self.staff else []

    # the library's signature
    def track_failed_authn(self, auth_type: str, tfa: bool = False) -> None:  # noqa: FBT001, FBT002
        """Count a wrong password or code; the fifth in a row locks the account."""
        del auth_type, tfa
        now = self.context.clock()
        with self.context.store.transaction() as session:
            # Locked: of several wrong attempts at once each has to count.
            row = session.get_one(Account, self.id, with_for_update=True)
            row.failures += 1
            if row.failures >= MAX_FAILURES:
                # From zero again, so that after the lock one wrong attempt does not lock at once.
                row.failures, row.locked_until = 0, now + LOCK_DURATION
                audit.record(
                    session,
                    "account locked",
                    by="rule",
                    cause="wrong passwords",
                    now=now,
                    account=row.id,
                )
                log.account_locked(row.id)

    def is_locked(self, form_error: list[str] | None = None) -> bool:
        """Return whether sign-in is refused for now, even with the right password."""
        locked = self.locked_until is not None and self.context.clock() < self.locked_until
        if locked and form_error is not None:
            form_error.append(LOCKED_MESSAGE)
        return locked


class Accounts(UserDatastore):
    """The library's datastore over our table: `put` writes, `commit` has nothing left to do."""

    def __init__(self, app_context: AppContext) -> None:
        super().__init__(User, Group)
        self._context = app_context

    def find_user(
        self,
        case_insensitive: bool = False,  # noqa: FBT001, FBT002
        **kwargs: Any,
    ) -> User | None:
        """Find a user by `fs_uniquifier`, `email` or `id`; None where there is none."""
        del case_insensitive  # addresses are stored case-folded
        (name, value), *_ = kwargs.items()
        if value is None:  # the issuer confirmed no address
            return None
        column = {"fs_uniquifier": Account.uniquifier, "email": Account.email, "id": Account.id}[
            name
        ]
        key = value.strip().casefold() if name == "email" else value
        query = select(Account).where(column == key).options(joinedload(Account.staff))
        with self._context.store.read_only() as session:
            row = session.scalar(query)
        return _make_user(self._context, row) if row is not None else None

    def find_role(self, role: str) -> Group:
        """Return the role of this name: roles are an enumeration of ours."""
        return Group(role)

    def put(self, model: User) -> User:
        """Write the fields the library may have changed, at once."""
        values = {
            "password": model.password or "",
            "active": model.active,
            "uniquifier": model.fs_uniquifier,
            "second_factor": model.tf_primary_method,
            "totp_secret": model.tf_totp_secret,
            "recovery_codes": list(model.mf_recovery_codes or ()),
        }
        with self._context.store.transaction() as session:
            session.execute(update(Account).where(Account.id == model.id).values(values))
        return model

    def delete(self, model: User) -> None:
        """Deactivate the account: it is never deleted, because the audit log names it."""
        model.active = False
        self.put(model)

    def commit(self) -> None:
        """Do nothing: `put` has written everything."""


def record_sign_in(app_context: AppContext, user: User) -> None:
    """Record a successful sign-in, and reset the count of failures."""
    now = app_context.clock()
    with app_context.store.transaction() as session:
        row = session.get_one(Account, user.id)
        row.failures, row.locked_until, row.signed_in_at = 0, None, now
        audit.record(
            session, "signed in", by=row.staff.name, cause="sign-in", now=now, account=row.id
        )


def _make_user(app_context: AppContext, row: Account) -> User:
    return User(
        context=app_context,
        id=row.id,
        email=row.email,
        password=row.password or None,
        active=row.active,
        fs_uniquifier=row.uniquifier,
        tf_primary_method=row.second_factor,
        tf_totp_secret=row.totp_secret,
        mf_recovery_codes=list(row.recovery_codes),
        locked_until=row.locked_until,
        staff=row.staff,
        time_zone=row.time_zone,
    )
