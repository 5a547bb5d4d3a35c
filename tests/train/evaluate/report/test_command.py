from pathlib import Path

import pytest

from skyreid.train.__main__ import main


def test_a_folder_that_cannot_be_used_is_refused_before_any_model_is_opened(
    tmp_path: Path, tiny_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    words = ["evaluate", str(tmp_path / "no-bundle"), str(tmp_path / "none"), "--data"]
    assert main([*words, str(tiny_tree), "--report", str(tmp_path / "file" / "x")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    assert main([*words, str(tiny_tree), "--report", str(tmp_path / "full")]) == 2
    said = capsys.readouterr().err
    assert "holds files that are no report" in said
    assert said.count("\n") == 1
