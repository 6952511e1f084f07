"""IMAP reader: fetch mail from mailboxes, store it, then mark it as handled."""
