"""Tickets, companies and contacts exported from a CRM, for moving in."""
