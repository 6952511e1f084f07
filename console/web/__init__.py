"""What every page stands on.

The app, sign-in, sessions, rights, and how things are written for people.
"""
