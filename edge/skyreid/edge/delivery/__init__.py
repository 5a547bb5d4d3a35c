"""From sightings to the server: the spool, the outbox, MQTT, pictures."""
