"""Replay: process past deliveries again, compare the result with what was filed, correct it."""
