"""What two roles must agree on: messages, topics, units, settings, recordings, errors.

Needs numpy, pydantic and protobuf only, so it installs wherever one end of the wire runs.
"""
