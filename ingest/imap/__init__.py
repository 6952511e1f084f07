"""IMAP reader: fetch mail of a mailbox, store it, then mark it as handled."""
