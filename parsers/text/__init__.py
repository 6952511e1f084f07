"""Text of strangers made safe: HTML, charsets, dates, file names, JSON."""
