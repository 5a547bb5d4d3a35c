"""The house: one namespace, rooms that import alone, a README that tells the truth."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROLES = ("contract", "bundle", "train", "export", "edge", "server")
PACKAGES = {role: f"{role}/skyreid/{role}" for role in ROLES} | {"synth": "train/skyreid/synth"}
OPTIONAL = (
    "av", "cv2", "fastapi", "gi", "numba", "onnx", "onnxruntime", "onnxscript", "onnxsim", "paho",
    "prometheus_client", "pycuda", "safetensors", "scipy", "tensorrt", "torch", "tqdm", "trackeval",
    "uvicorn",
)  # fmt: skip


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )


def test_no_role_claims_the_namespace(repository: Path) -> None:
    """An ``__init__.py`` in one role's ``skyreid/`` makes all the others unimportable."""
    assert [str(p) for p in repository.glob("*/skyreid/__init__.py")] == []


@pytest.mark.parametrize("role", PACKAGES)
def test_a_role_imports_without_its_optional_parts(role: str) -> None:
    blocked = "\n".join(f"sys.modules[{name!r}] = None" for name in OPTIONAL)
    done = run(f"import sys\n{blocked}\nimport skyreid.{role}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("role", ["edge", "server", "train", "export"])
def test_a_command_says_its_help_without_optional_parts(role: str) -> None:
    blocked = "\n".join(f"sys.modules[{name!r}] = None" for name in OPTIONAL)
    code = (
        f"import sys\n{blocked}\nsys.argv = ['skyreid-{role}', '--help']\n"
        f"from skyreid.{role}.__main__ import main\nsys.exit(main())"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert f"skyreid-{role}" in done.stdout


@pytest.mark.parametrize("role", ["contract", "bundle", "synth", "edge", "server"])
def test_no_training_stack_in(role: str, repository: Path) -> None:
    """Every module of the room is imported in one process; torch must not have come along."""
    folder = repository / PACKAGES[role]
    names = [
        ".".join(("skyreid", role, *path.relative_to(folder).with_suffix("").parts))
        for path in sorted(folder.rglob("*.py"))
        if path.name not in ("__main__.py", "__init__.py")
    ]
    assert names
    heavy = {"torch", "onnx", "onnxruntime", "safetensors"}
    if role != "synth":
        heavy = heavy - {"onnxruntime"} | {"numba", "av"}
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"heavy = {heavy!r} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_every_command_has_an_entry_point() -> None:
    scripts = importlib.metadata.entry_points(group="console_scripts")
    mine = {entry.name for entry in scripts if entry.name.startswith("skyreid-")}
    assert mine == {"skyreid-train", "skyreid-export", "skyreid-edge", "skyreid-server"}


def test_the_readmes_file_tree_is_the_tree(repository: Path) -> None:
    """Every path of the README's tree exists, and every top-level folder is in it."""
    readme = (repository / "README.md").read_text()
    tree = re.search(r"```tree\n(.*?)```", readme, re.DOTALL)
    assert tree is not None, "README.md has no ```tree block"
    listed = [line.split()[0] for line in tree[1].splitlines() if line.strip()]
    missing = [path for path in listed if not (repository / path).exists()]
    assert missing == []
    tops = {path.split("/")[0] for path in listed}
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    folders = {name.split("/")[0] for name in tracked if "/" in name}
    assert folders - tops == set()


def test_nothing_is_left_to_do_later(repository: Path) -> None:
    done = subprocess.run(
        ["git", "grep", "-nIE", "TO" + "DO|FIX" + "ME", "--", "*.py", "*.md", "*.toml"],
        cwd=repository, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == ""


def test_every_room_is_shipped(repository: Path) -> None:
    text = (repository / "pyproject.toml").read_text()
    for role, folder in PACKAGES.items():
        assert f'"{folder.split("/")[0]}/skyreid"' in text
        assert (repository / folder / "py.typed").is_file(), role
