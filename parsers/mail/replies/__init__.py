"""Replies: the newest text, without quotes, quoted headers and signatures."""
