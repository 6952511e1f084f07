"""The JSON API under /api/v1/.

For programs, with a token, in the shapes that the commands print.
"""
