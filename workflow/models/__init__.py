"""Tables of the database as SQLAlchemy models, and the states their rows can have."""
