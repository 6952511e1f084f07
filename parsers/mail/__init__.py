"""E-mail (RFC 5322): one message becomes one inbound item."""
