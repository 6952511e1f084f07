"""Commands about tickets: `intake tickets`, `ticket`, `automated`, `export`."""
