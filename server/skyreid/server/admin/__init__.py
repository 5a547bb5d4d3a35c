"""What an operator says to a journal, beside the server: quarantine, devices."""
