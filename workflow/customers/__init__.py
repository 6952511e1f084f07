"""Customers: companies, contacts, their numbers, and checks that keep them apart."""
