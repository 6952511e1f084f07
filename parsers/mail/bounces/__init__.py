"""Bounces: what a delivery report says of a mail, in fields or in plain words."""
