"""Replies: the newest text told from quotes, quoted headers and signatures."""
