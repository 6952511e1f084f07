"""Mail to customers: composed from templates, checked, and handed to the relay."""
