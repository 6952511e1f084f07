"""Processing of stored deliveries: parsed in child processes, then filed."""
