"""The `intake` command: one module a group of commands."""
