"""Database: engine, locks, bulk inserts, and text that a database accepts."""
