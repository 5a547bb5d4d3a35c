"""What every broker of a site has to keep, whoever writes its settings."""

_BOUNDS = """\
max_queued_messages 0
max_queued_bytes 268435456
max_inflight_messages 1000
max_packet_size 300000
sys_interval 5
"""
PROMISED = (
    """\
persistence true
persistence_location {folder}/
autosave_interval 60
"""
    + _BOUNDS
)
"""For mosquitto, with its `{folder}`: what `docker/mosquitto.conf` has below its line, and why."""
BY_PLUGINS = (
    """\
persistence_location {folder}/
global_plugin {plugins}/mosquitto_persist_sqlite.so
plugin_opt_flush_period 5
"""
    + _BOUNDS
)
"""The same for mosquitto 2.1 with the `{plugins}` that it brings: a database instead of a file that
is written whole, so that a kill costs five seconds instead of a minute."""
