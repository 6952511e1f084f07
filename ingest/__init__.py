"""Ways in: each channel stores what it receives by ingest.intake.accept, then acknowledges."""
