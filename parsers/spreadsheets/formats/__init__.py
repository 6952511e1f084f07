"""Readers of workbooks and tables, one module a file format."""
