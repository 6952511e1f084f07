"""Settings: read from the environment and intake.toml, checked, and reported."""
