"""Syntax of mail: header fields, addresses, MIME parts, transfer encodings."""
