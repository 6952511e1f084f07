"""Plain data of tickets: lists, the page of a ticket and its timeline, the answer page."""
