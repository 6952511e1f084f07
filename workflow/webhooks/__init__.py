"""Outgoing webhooks: events delivered at least once to addresses an administrator added."""
