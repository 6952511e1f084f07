"""Tickets, customers, mail and the support process."""
