"""The report of a run: one HTML file that needs nothing else, with tables, curves and pictures."""
