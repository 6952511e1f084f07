"""Pages for leads, auditors and admins: operations, deliveries, people, webhooks, responses."""
