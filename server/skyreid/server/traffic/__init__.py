"""A site's traffic, recorded with its receive times and replayed to another server."""
