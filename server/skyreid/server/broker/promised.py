"""What every broker of a site has to keep, whoever writes its settings."""

PROMISED = """\
persistence true
persistence_location {folder}/
autosave_interval 60
max_queued_messages 0
max_queued_bytes 268435456
max_inflight_messages 1000
max_packet_size 300000
sys_interval 5
"""
"""For mosquitto, with its `{folder}`: what `docker/mosquitto.conf` has below its line, and why."""
