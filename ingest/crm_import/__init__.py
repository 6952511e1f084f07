"""Import of tickets and people from a CRM's export."""
