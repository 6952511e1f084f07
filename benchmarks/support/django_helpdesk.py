"""File mails with django-helpdesk: `python django_helpdesk.py FOLDER`, in its own environment.

FOLDER holds mails as *.eml; its SQLite is tuned as ours (WAL, every commit synced). Each mail is a
transaction, and no notice is sent. Prints mails a second, and processor milliseconds a mail.
"""

import json
import logging
import sys
import time
from pathlib import Path

import django
from django.conf import settings

FOLDER = Path(sys.argv[1])
urlpatterns: list[object] = []  # Django looks for it here


def configure() -> None:
    """Set Django up with one database in the folder."""
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(FOLDER / "helpdesk.db"),
                "OPTIONS": {
                    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
                    "transaction_mode": "IMMEDIATE",
                },
            }
        },
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.sites",
            "django.contrib.humanize",
            "django.contrib.messages",
            "rest_framework",
            "helpdesk",
        ],
        EMAIL_BACKEND="django.core.mail.backends.dummy.EmailBackend",
        MEDIA_ROOT=str(FOLDER / "media"),
        ROOT_URLCONF="__main__",
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        HELPDESK_TEAMS_MODE_ENABLED=False,
        SECRET_KEY="benchmark",
        SITE_ID=1,
        TEMPLATES=[
            {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
        ],
        USE_TZ=True,
    )
    django.setup()


def main() -> None:
    """File all mails and print what it cost."""
    configure()
    from django.core.management import call_command  # noqa: PLC0415  # after the set-up
    from django.db import transaction  # noqa: PLC0415
    from django.urls import include, path  # noqa: PLC0415
    from helpdesk.email import extract_email_metadata  # noqa: PLC0415
    from helpdesk.models import Queue, Ticket  # noqa: PLC0415

    urlpatterns.append(path("", include("helpdesk.urls", namespace="helpdesk")))
    call_command("migrate", verbosity=0)
    queue = Queue.objects.create(title="Support", slug="support", allow_email_submission=True)
    logger = logging.getLogger("benchmark")
    logger.setLevel(logging.CRITICAL)
    mails = [file.read_text() for file in sorted(FOLDER.glob("*.eml"))]
    began, cpu = time.perf_counter(), time.process_time()
    for mail in mails:
        with transaction.atomic():
            extract_email_metadata(mail, queue, logger)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert Ticket.objects.count() == len(mails)
    costs = {"rate": len(mails) / seconds, "cpu_ms": 1000 * cpu / len(mails)}
    sys.stdout.write(json.dumps(costs) + "\n")


if __name__ == "__main__":
    main()
