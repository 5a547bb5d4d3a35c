"""mosquitto's settings for an authority: names are those of certificates, deny by default.

For mosquitto 2.0 (tested with 2.0.11). The common name of a client's certificate is its user name
and its client id, whatever it calls itself, so that nobody can put out or be somebody else. The
access list has a pattern for devices and lines for the server; what is not in it is denied.
"""

from __future__ import annotations

import os
import pwd
import signal
from pathlib import Path

from skyreid.contract import topics
from skyreid.server.broker.promised import PROMISED
from skyreid.server.certs.authority import Authority
from skyreid.server.certs.key_files import give

_CONF = """\
# Written by skyreid-server certs init, for mosquitto 2.0, whose user has to read these files.
listener {port}
cafile {folder}/ca.pem
certfile {folder}/broker.pem
keyfile {folder}/broker.key
crlfile {folder}/crl.pem
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {folder}/acl
max_connections {connections}
pid_file {own}/mosquitto.pid

"""
OWN = "broker"
"""The only folder that mosquitto writes in: its database, the number of its process."""
USER = "mosquitto"
CONNECTIONS_MAX = 4096
DROPPED = "$SYS/broker/publish/messages/dropped"


def settings(authority: Authority, port: int) -> str:
    """``mosquitto.conf``."""
    folder = authority.folder.resolve()
    own = folder / OWN
    head = _CONF.format(folder=folder, own=own, port=port, connections=CONNECTIONS_MAX)
    return head + PROMISED.format(folder=own)


def make_home(authority: Authority) -> bool:
    """Make the folder that mosquitto writes in; whether its user has it, and the broker's key.

    Where this is not root, or there is no such user, mosquitto runs as whoever runs this.
    """
    own = authority.path(OWN)
    own.mkdir(mode=0o700, exist_ok=True)
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        return False
    if os.geteuid() != 0:
        return False
    give(own, user.pw_uid, user.pw_gid, 0o700)
    give(authority.path("broker.key"), 0, user.pw_gid, 0o640)
    return True


def access_list(authority: Authority) -> str:
    """``acl_file``: what stands nowhere here is denied."""
    root = f"{topics.ROOT}/{authority.site}"
    return (
        f"user {authority.server_name}\n"
        f"topic read {root}/dev/#\n"
        f"topic write {root}/cmd/#\n"
        f"topic write {root}/identity/#\n"
        f"topic write {root}/rejected/#\n"
        f"topic write {topics.audit_head(authority.site)}\n"
        f"topic read {DROPPED}\n"
        "\n"
        f"pattern write {root}/dev/%u/#\n"
        f"pattern read {root}/cmd/%u/#\n"
    )


def reload(authority: Authority) -> bool:
    """Have the broker read the revocation list again; whether it could be told (SIGHUP)."""
    try:
        pid = int((authority.path(OWN) / "mosquitto.pid").read_text())
        if Path(f"/proc/{pid}/comm").read_text().strip() != "mosquitto":
            return False
        os.kill(pid, signal.SIGHUP)
    except (OSError, ValueError):
        return False
    return True
