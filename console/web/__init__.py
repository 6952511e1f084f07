"""The basis of every page: sign-in, sessions, permissions, template filters."""
