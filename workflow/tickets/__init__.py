"""Tickets: every change the desk makes to one, its deadlines, its views and its undo."""
