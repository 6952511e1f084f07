"""HTML pages, a module for each part of the desk; each view names the right it needs."""
