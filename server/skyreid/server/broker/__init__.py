"""Messages in and out: the MQTT connection, decoding and checking, the outbox of events."""
