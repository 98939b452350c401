"""Files that are to outlive a power cut, and that others than their maker may read."""

import os

import pytest

from apo_soup.runs.stage import Stage


@pytest.mark.parametrize("umask", [0o022, 0o007, 0o077])
def test_a_finished_folder_has_the_rights_that_the_umask_says(tmp_path, umask):
    before = os.umask(umask)
    try:
        _finish_and_look(tmp_path, 0o666 & ~umask)
    finally:
        os.umask(before)


def _finish_and_look(tmp_path, expected):
    one = Stage("sft", tmp_path / "sft", {}, {})
    one.begin()
    final = one.result_folder()
    (final / "adapter").mkdir()
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        (final / name).write_bytes(b"weights")
        (final / name).chmod(0o600)  # as safetensors leaves it
    one.finish(final, {})
    rights = {file.stat().st_mode & 0o777 for file in one.folder.rglob("*") if file.is_file()}
    assert (one.folder / "manifest.json").stat().st_mode & 0o777 == expected
    assert {r & 0o444 for r in rights} == {expected & 0o444}
    assert one.stale() is None
