"""Pages of tickets: the queue, one ticket, answers, files, tasks."""
