"""`apo-soup clean`: it lists, and with --yes removes what no stage would go on with."""

import json

from apo_soup.runs.stage import Stage


def test_it_lists_then_removes_and_leaves_what_a_stage_goes_on_with(apo_soup, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe, run = tmp_path / "the recipe", tmp_path / "run"
    recipe.mkdir()
    (recipe / "data.yaml").write_text(json.dumps({"output_dir": "run/data", "seed": 0, "counts": {"sft_talk": 3}}))
    Stage("data", run / "data", {"seed": 1}, {}).begin()
    begun = Stage("data", run / "data", {}, {}).begin()
    (begun / "checkpoint-7").mkdir()
    (begun / "checkpoint-7" / "model.safetensors").write_bytes(b"0" * 1_500_000)
    (aside,) = run.glob(".data.replaced-*")
    size = f"{sum(file.stat().st_size for file in aside.iterdir())} B"
    listed = apo_soup("clean", recipe)
    assert [" ".join(line.split()) for line in listed.stdout.splitlines() if "---" not in line] == [
        "size nothing needs",
        f"{size} run/{aside.name} data as it was begun, and came to no checkpoint",
        "",
        "size a stage that is not up to date goes on with (removed with --all)",
        "1.5 MB run/.data.partial data as it was begun, at step 7; the same command goes on from it",
        "",
        f"{size}: `apo-soup clean '{recipe}' --yes` removes them",
    ]
    assert (listed.returncode, len(list(run.iterdir()))) == (0, 2)
    removed = apo_soup("clean", recipe, "--yes")
    told = f"removed: run/{aside.name}, {size}: data as it was begun, and came to no checkpoint\n{size} removed\n"
    assert (removed.returncode, removed.stdout) == (0, told)
    assert [f.name for f in run.iterdir()] == [".data.partial"]
    assert apo_soup("clean", recipe, "--yes", "--all").stdout.endswith("1.5 MB removed\n")
    assert list(run.iterdir()) == []
