"""Filing of inbound items: duplicates, matching to a ticket, and the rows written for an item."""
