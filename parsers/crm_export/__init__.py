"""Tickets, companies and contacts exported from a CRM, to be imported."""
