"""Files that a form only links to: downloaded and attached to their ticket."""
