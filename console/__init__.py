"""User interfaces: the `intake` command, the pages and the API. Starts every process."""
