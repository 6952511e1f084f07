"""Tickets and the process they walk through."""
