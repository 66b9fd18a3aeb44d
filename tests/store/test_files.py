"""Folders of a run that is deleted while a task of another process begins to write there."""

import shutil
from pathlib import Path

import pytest

from dadmm.store.files import ROOT, LocalFiles


def test_a_late_task_does_not_begin_a_folder_whose_run_is_deleted_meanwhile(tmp_path, monkeypatch):
    files = LocalFiles(tmp_path / "run", durable=False)
    files.save(ROOT, b"{}", new=True)
    real = Path.exists

    def exists(path, **options):
        found = real(path, **options)
        if path.name == ROOT:
            shutil.rmtree(path.parent, ignore_errors=True)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", exists)
        with pytest.raises(FileNotFoundError):
            files.save("state/1/v_1/c.0.0", b"late")
    assert not (tmp_path / "run").exists()
