"""Pages of administrators: operations, deliveries, staff, webhooks, texts."""
