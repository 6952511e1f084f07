"""Formstack forms: the webhook's submission, the spool beside the database, and the backfill by API."""
