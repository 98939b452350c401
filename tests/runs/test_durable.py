"""Files that are to outlive a power cut, and that others than their maker may read."""

from apo_soup.runs.stage import Stage


def test_a_finished_folder_has_the_rights_that_the_umask_says(tmp_path):
    one = Stage("sft", tmp_path / "sft", {}, {})
    one.begin()
    final = one.result_folder()
    (final / "adapter").mkdir()
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        (final / name).write_bytes(b"weights")
        (final / name).chmod(0o600)  # as safetensors leaves it
    one.finish(final, {})
    rights = {file.stat().st_mode & 0o777 for file in one.folder.rglob("*") if file.is_file()}
    assert rights == {(one.folder / "manifest.json").stat().st_mode & 0o777}
    assert one.stale() is None
