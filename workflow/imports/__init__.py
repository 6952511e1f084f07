"""Imports: tickets and people from a CRM's export, and the undo of an import."""
