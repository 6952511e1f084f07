"""The JSON API under /api/v1/: for programs, with a token, in the shapes that the commands print."""
