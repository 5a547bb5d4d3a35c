"""The HTTP API and its answers, read from the journal file."""
