"""The ways in, and the one door they all end in: ingest.intake.accept."""
