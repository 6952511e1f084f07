"""Watched folder: workbooks dropped there are stored, then moved to done/ or rejected/."""
