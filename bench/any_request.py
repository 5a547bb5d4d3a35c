"""Ten minutes of whatever OpenAPI allows and forbids, asked of a real server: no 500, and it lives.

    python -m venv /tmp/st && /tmp/st/bin/pip install schemathesis
    python bench/any_request.py /tmp/report --schemathesis /tmp/st/bin/schemathesis

A server of its own, with a journal of a few thousand sightings and an admin's token, without a
broker; Schemathesis makes requests from its description, good and bad ones, for ``--minutes``. Not
asked is `/v1/events`, which goes on for ever. In the folder are what was asked and answered
(``asked.ndjson``), and the server's log. Prints one JSON object; exit code 1 where an answer was
500 or more but for 503, the server ended, or its log has a traceback.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from skyreid.contract.site import Site
from skyreid.server.access.roles import Role
from skyreid.server.access.tokens import Tokens, file_of
from skyreid.server.audit.log import folder_of
from skyreid.server.audit.verify import lines, verify
from skyreid.server.bench.load import A_MESSAGE, BOOT, DEVICE, SITE, batches
from skyreid.server.broker.decoding import Message, sort_messages
from skyreid.server.store.journal import Journal

TOKEN = "of-the-bench-and-nobody-guesses-it"


def settings_in(folder: Path) -> Path:
    """Settings of a server whose bounds are far away: a 429 would hide what is behind it."""
    (folder / "site.toml").write_text(f'id = "{SITE}"\npictures = "always"\n')
    path = folder / "server.toml"
    path.write_text(
        'site = "site.toml"\n[journal]\npath = "journal.sqlite"\n'
        '[mqtt]\nurl = "mqtt://127.0.0.1:1"\n[http]\nport = 0\naddress_file = "address.txt"\n'
        "[access]\nsearches_per_min = 1000000\npictures_per_min = 1000000\n"
    )
    return path


def fill(journal: Path) -> None:
    """A journal of a few thousand sightings."""
    held = Journal(journal, SITE, pictures_max_bytes=1 << 20)
    load: list[Message] = batches(200)
    batch = sort_messages(load, Site(id=SITE))
    assert len(batch.sightings) == 200 * A_MESSAGE
    held.store(batch.sightings, batch.heard)
    held.close()


def known_to(schema: dict[str, Any]) -> dict[str, Any]:
    """The description with names that are there, so that requests get behind the first look."""
    known = {"device": DEVICE, "boot": BOOT, "camera": "cam1", "track": 1}
    for operations in schema["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path" and parameter["name"] in known:
                    parameter["example"] = known[parameter["name"]]
    return schema


def defects(log: str) -> int:
    return len(re.findall(r"^Traceback ", log, re.MULTILINE))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="made; for the report")
    parser.add_argument("--schemathesis", default="schemathesis", help="its command")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder: Path = given.folder.resolve()
    folder.mkdir(parents=True)
    settings, journal = settings_in(folder), folder / "journal.sqlite"
    fill(journal)
    token = Tokens(file_of(journal)).create(TOKEN, Role.ADMIN, 1)
    with open(folder / "server.log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "skyreid.server", "run", str(settings)], stderr=log
        )
        while not (folder / "address.txt").exists():
            if server.poll() is not None:
                raise SystemExit((folder / "server.log").read_text())
            time.sleep(0.2)
        address = (folder / "address.txt").read_text().strip()
        asks = urllib.request.Request(
            f"{address}/v1/openapi.json", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(asks) as answer:
            schema = known_to(json.load(answer))
        (folder / "openapi.json").write_text(json.dumps(schema))
        asked, began_s = folder / "asked.ndjson", time.monotonic()
        ended = subprocess.run(
            [
                *(given.schemathesis, "run", str(folder / "openapi.json"), "--url", address),
                *("-H", f"Authorization: Bearer {token}", "-c", "not_a_server_error"),
                *("--exclude-path", "/v1/events", "--mode", "all", "--continue-on-failure"),
                *("-n", "1000000", "--max-time", str(int(60 * given.minutes))),
                *("--request-timeout", "60", "--seed", str(given.seed), "--suppress-health-check"),
                *(
                    "all",
                    "--report",
                    "ndjson",
                    "--report-ndjson-path",
                    str(folder / "asked.ndjson"),
                ),
            ],
            cwd=folder,  # where it keeps what it found
            stdout=open(folder / "said.txt", "wb"),
            stderr=subprocess.STDOUT,
        )
        took_s, alive = time.monotonic() - began_s, server.poll() is None
        server.send_signal(signal.SIGTERM)
        code = server.wait(120)
    log_text = (folder / "server.log").read_text(errors="replace")
    acts = Counter(json.loads(raw)["act"] for _, raw in lines(folder_of(journal)))
    answers = statuses(asked)
    wrong = sum(count for status, count in answers.items() if status >= 500 and status != 503)
    said = {
        "minutes": round(took_s / 60, 1),
        "requests": sum(answers.values()),
        "answers": dict(sorted(answers.items())),
        "server_errors": wrong,
        "tracebacks": defects(log_text),
        "server_lived": alive and code == 0,
        "schemathesis_exit": ended.returncode,
        "audit_lines": sum(acts.values()),
        "audit_wrong": verify(folder_of(journal)).wrong,
    }
    print(json.dumps(said))
    good = said["server_lived"] and ended.returncode in (0, 1)  # 1: of a 503, which is none
    return int(bool(wrong or said["tracebacks"] or said["audit_wrong"] or not good))


def statuses(report: Path) -> Counter[int]:
    """How many answers there were of each status."""
    found: Counter[int] = Counter()
    for row in report.read_text().splitlines():
        for status in re.findall(r'"status_code": ?(\d{3})', row):
            found[int(status)] += 1
    return found


if __name__ == "__main__":
    raise SystemExit(main())
