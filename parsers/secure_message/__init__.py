"""Exports of Kareo secure messages: one row becomes one inbound item."""
