"""What every page stands on: the app, sign-in, sessions, rights, and how things are written for people."""
