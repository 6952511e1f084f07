"""Formstack submissions: one submission becomes one inbound item."""
