"""Real processes under a known load, killed at random and at marked points.

Then what was promised is counted.
"""
