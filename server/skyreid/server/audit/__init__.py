"""The audit log: who looked, searched, exported and erased, in a chain of hashes."""
