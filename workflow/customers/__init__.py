"""Customers: companies, contacts, and who wrote or called."""
