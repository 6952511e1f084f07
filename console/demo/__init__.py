"""`intake demo`: one of each kind sent through the real channels."""
