"""Which folders a soup averages."""

import pytest

from apo_soup.errors import UserError


def test_all_members_are_those_of_the_apo_file_with_their_kept_steps(run, merge_file, write_recipe):
    from apo_soup.config.load import load
    from merge.members import soup_members

    recipe = load(merge_file(), "merge")
    needed = {"model_name_or_path": "m", "dataset_mixture": {"datasets": [{"id": "rows.jsonl"}]}}
    assert [f.name for f in soup_members(recipe)] == ["1", "2", "3"]
    (run / "apo" / "3").rename(run / "apo" / "10")
    assert [f.name for f in soup_members(recipe)] == ["1", "2", "10"]
    (run / "apo" / "10").rename(run / "apo" / "1-at-0.5")
    members = [{"checkpoints": [0.5]}, {"seed": 2}]
    write_recipe("apo.yaml", {"members": members, "output_dir": str(run / "apo"), **needed})
    assert [f.name for f in soup_members(recipe)] == ["1-at-0.5", "1", "2"]
    (run / "apo" / "1-at-0.5").rename(run / "gone")
    with pytest.raises(
        UserError,
        match=r"soup\.members: .*apo/1-at-0\.5, which is not there .*; run `apo-soup run apo` first",
    ):
        soup_members(recipe)
    recipe.soup.members = ["2", "1"]
    assert [f.name for f in soup_members(recipe)] == ["2", "1"]
