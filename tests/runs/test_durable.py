"""Files that are to outlive a power cut, and that others than their maker may read."""

import os

import pytest

from apo_soup.runs.stage import Stage


@pytest.fixture(params=[0o022, 0o007, 0o077])
def umask(request):
    """The bits that files do not get while a test runs."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_finished_folder_has_the_rights_that_the_umask_says(tmp_path, umask):
    one = Stage("sft", tmp_path / "sft", {}, {})
    one.begin()
    final = one.result_folder()
    (final / "adapter").mkdir()
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        (final / name).write_bytes(b"weights")
        (final / name).chmod(0o600)  # as safetensors leaves it
    one.finish(final, {})
    rights = {file.stat().st_mode & 0o777 for file in one.folder.rglob("*") if file.is_file()}
    assert (one.folder / "manifest.json").stat().st_mode & 0o777 == 0o666 & ~umask
    assert {r & 0o444 for r in rights} == {0o444 & ~umask}
    assert one.stale() is None
