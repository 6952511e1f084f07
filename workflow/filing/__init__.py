"""Filing: which ticket an inbound item belongs to, and what is written for it."""
