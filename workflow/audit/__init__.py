"""Audit log: who did what when, searchable, and the events webhooks are sent."""
