"""A recorded run against the truth of its clip; never part of the running server."""
