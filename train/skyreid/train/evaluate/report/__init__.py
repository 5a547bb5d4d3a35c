"""The report of an evaluation: one static page with its pictures."""
