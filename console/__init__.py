"""What people use: the `intake` command and the pages. Starts every process."""
