"""Real processes under a known load, killed at random and at marked points; then what was promised is counted."""
