"""Plain data for pages, API and terminal, made from the tables."""
