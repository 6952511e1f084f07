"""Replay: past deliveries are read again, compared with what was filed, and corrected."""
