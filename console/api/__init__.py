"""JSON API under /api/v1/ for programs with a token; same shapes as `--json` of the commands."""
