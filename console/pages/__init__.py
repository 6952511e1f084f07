"""The pages, a module for each part of the desk; each names the right it needs."""
