"""`intake demo`: one item through each channel."""
