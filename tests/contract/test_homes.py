"""Every message has one home: what speaks to the broker neither writes nor reads a wire form."""

import ast
from pathlib import Path

FOLDERS = ("edge/skyreid/edge/delivery", "server/skyreid/server/broker")
FILES = (
    "edge/skyreid/edge/flow.py",
    "edge/skyreid/edge/health.py",
    "server/skyreid/server/devices.py",
    "server/skyreid/server/writer.py",
)
NO_MESSAGES = {"spool.py", "spool_file.py", "migrations.py", "packet.py"}
"""What a device keeps on its disk is no message, nor is the packet of MQTT that carries one."""


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def test_no_other_room_knows_how_a_message_is_written(repository: Path) -> None:
    files = [repository / name for name in FILES]
    for folder in FOLDERS:
        files += [p for p in (repository / folder).glob("*.py") if p.name not in NO_MESSAGES]
    assert len(files) > 8
    for path in files:
        assert not imported(path) & {"json", "google", "struct"}, path


def test_every_golden_file_is_read_by_a_test(repository: Path) -> None:
    tests = "".join(p.read_text() for p in (repository / "tests/contract").glob("test_*.py"))
    for path in (repository / "tests/golden").iterdir():
        assert path.name in tests, path.name
