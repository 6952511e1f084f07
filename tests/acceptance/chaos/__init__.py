"""Real processes under a known load, killed at random and at marked points.

Then everything that was acknowledged is counted.
"""
