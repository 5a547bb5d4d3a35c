"""mosquitto's settings for an authority: names are those of certificates, deny by default.

For mosquitto 2.0 and 2.1 (tested with 2.0.11 and 2.1.2). The common name of a client's certificate
is its user name and its client id, whatever it calls itself, so that nobody can put out or be
somebody else. The access list has a pattern for devices and lines for the server; what is not in it
is denied. 2.1 reads the list by a plugin too, and 3.0 will by nothing else.
"""

from __future__ import annotations

import os
import pwd
import signal
from pathlib import Path

from skyreid.contract import topics
from skyreid.server.broker.promised import BY_PLUGINS, PROMISED
from skyreid.server.certs.authority import Authority
from skyreid.server.certs.key_files import give

_CONF = """\
# Written by skyreid-server certs init, for mosquitto {version}, whose user has to read these files.
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
max_connections {connections}
pid_file {own}/mosquitto.pid
{acl}

"""
_ACL = "acl_file {folder}/acl"
_ACL_BY_PLUGIN = """\
global_plugin {plugins}/mosquitto_acl_file.so
plugin_opt_acl_file {folder}/acl"""
OWN = "broker"
"""The only folder that mosquitto writes in: its database, the number of its process."""
USER = "mosquitto"
CONNECTIONS_MAX = 4096
DROPPED = "$SYS/broker/publish/messages/dropped"


def settings(authority: Authority, port: int, plugins: Path | None = None) -> str:
    """``mosquitto.conf``; with the folder of its ``plugins`` for 2.1 and later alone."""
    folder = authority.folder.resolve()
    own = folder / OWN
    version, acl, promised = "2.0 or 2.1", _ACL, PROMISED
    if plugins is not None:
        version, acl, promised = "2.1", _ACL_BY_PLUGIN, BY_PLUGINS
    head = _CONF.format(
        version=version,
        folder=folder,
        own=own,
        port=port,
        connections=CONNECTIONS_MAX,
        acl=acl.format(folder=folder, plugins=plugins),
    )
    return head + promised.format(folder=own, plugins=plugins)


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
