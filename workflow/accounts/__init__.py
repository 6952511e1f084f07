"""Accounts of staff: sign-in, invitations, API tokens."""
