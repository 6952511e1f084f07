"""Audit log: who did what and when, its search, and the webhook events made from it."""
