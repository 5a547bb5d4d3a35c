"""A spool on a disk that fills up; run in a mount namespace of its own: ``full_disk.py FOLDER``.

Prints one JSON object of what was seen.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from skyreid.contract.errors import InputError
from skyreid.contract.receipt import Range, Status
from skyreid.contract.sighting import ModelRef
from skyreid.edge.delivery.rows import Row
from skyreid.edge.delivery.spool import Spool

MODEL = ModelRef("k" * 16, 4, "b" * 64, "test")
GROUP = 5


def fill(folder: Path) -> None:
    """As another program does: to the last byte."""
    with open(folder / "others", "ab", buffering=0) as stream:
        for size in (4096, 1):
            try:
                while True:
                    stream.write(bytes(size))
            except OSError:
                continue


def main(folder: Path) -> None:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)], check=True)
    seen: dict[str, object] = {}
    dropped: dict[str, int] = {}
    fill(folder)
    try:
        Spool(folder / "s.db")  # the first start of all
    except InputError as error:
        seen["first_start"] = str(error).replace(f"{folder}/", "")
    os.unlink(folder / "others")
    spool = Spool(folder / "s.db")
    seen["reserved"] = os.path.exists(folder / "s.db.reserve")
    seq = 0
    newest_kept = True

    def say(groups: int) -> None:
        nonlocal seq, newest_kept
        for _ in range(groups):
            rows = [Row(seq + n, 1, os.urandom(1100)) for n in range(1, GROUP + 1)]
            seq += GROUP
            for reason, count in spool.append(rows, MODEL).items():
                dropped[reason] = dropped.get(reason, 0) + count
            newest_kept &= spool.after(0, 10_000)[-1].seq == seq

    say(10)
    fill(folder)
    say(60)  # goes on, in the place of the oldest
    seen["newest_kept"] = newest_kept
    seen["dropped"] = dict(dropped)
    seen["said"] = seq
    held = [row.seq for row in spool.after(0, 10_000)]
    seen["held"] = len(held)
    seen["in_order"] = held == list(range(held[0], seq + 1))
    spool.append((), MODEL, settled=[(spool.boot, Range(1, seq - 2, Status.STORED))])
    seen["after_receipt"] = [row.seq for row in spool.after(0, 10_000)] == [seq - 1, seq]
    spool.close()
    fill(folder)
    spool = Spool(folder / "s.db")  # a start on a full disk
    seen["again"] = spool.count()
    say(3)
    spool.close()
    os.unlink(folder / "others")
    with Spool(folder / "s.db") as spool:
        seen["room_again"] = os.path.exists(folder / "s.db.reserve")
        (seen["whole"],) = spool._db.execute("PRAGMA integrity_check").fetchone()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
