"""Formstack forms.

The webhook's submission, the spool beside the database, and the backfill by API.
"""
