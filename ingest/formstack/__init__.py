"""Formstack forms: the spool for webhook submissions, and the backfill by Formstack's API."""
