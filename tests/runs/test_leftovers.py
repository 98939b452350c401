"""What a run holds beside its stages: found, told apart by who needs it, and removed; nobody's files, never."""

import json
import os

import pytest

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.runs.leftovers import AGAIN, FREE, GOES_ON, UNNAMED, leftovers
from apo_soup.runs.lock import at_work
from apo_soup.runs.stage import Stage


@pytest.fixture(autouse=True)
def no_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def apo(tmp_path):
    """An apo file of one member, and its stage."""
    file = tmp_path / "apo.yaml"
    mixture = {"datasets": [{"id": "rows.jsonl"}]}
    values = {"output_dir": str(tmp_path / "run" / "apo"), "model_name_or_path": "m", "dataset_mixture": mixture}
    file.write_text(json.dumps(values))
    return load(file, "apo"), Stage("apo/1", tmp_path / "run" / "apo" / "1", {"seed": 1}, {})


def write(path, text="1234"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def told(recipe, *current):
    found = leftovers([recipe], current)
    return {(path.name, one.need): one.told for one in found for path in one.paths}


def finish(stage):
    stage.begin()
    stage.finish(stage.result_folder(), {})


def test_a_begun_training_is_gone_on_with_and_what_it_left_is_not_needed(apo):
    recipe, stage = apo
    write(stage.begin() / "checkpoint-8" / "model.safetensors")
    days = "apo/1 as it was begun, at step 8; the same command goes on from it"
    assert told(recipe) == {(".1.partial", GOES_ON): days}
    tried = Stage("apo/1", stage.folder, {"seed": 1, "max_steps": 1}, {}, arguments=["--max_steps", "1"])
    write(tried.begin() / "damaged-checkpoint-1" / "model.safetensors")
    aside = f".1.replaced-{stage.fingerprint[:6]}"
    assert told(recipe) == {
        (aside, GOES_ON): days,
        (".1.partial", GOES_ON): "apo/1 as it was begun with --max_steps 1; the same command goes on from it",
        ("damaged-checkpoint-1", FREE): "a checkpoint that nothing can go on from",
    }
    finish(tried)
    assert list(told(recipe, stage.folder)) == [(aside, GOES_ON)], "days of the training that the file asks for"
    finish(stage)
    assert told(recipe, stage.folder) == {}


def test_checkpoints_that_are_begun_for_nobody_knows_what_are_listed_and_kept(apo):
    recipe, stage = apo
    write(stage.begin() / "checkpoint-8" / "model.safetensors")
    write(stage.partial / "begun.json", "{")
    write(stage.partial.with_name(".1.replaced") / "checkpoint-2" / "model.safetensors")
    reason = "begun.json there is damaged or gone, so nothing goes on from it"
    listed = {
        (".1.partial", GOES_ON): f"apo/1 as it was begun, at step 8; {reason}",
        (".1.replaced", GOES_ON): f"apo/1 as it was begun, at step 2; {reason}",
    }
    assert told(recipe) == listed
    finish(Stage("apo/1", stage.folder.with_name("2"), {}, {}))
    stage.folder.with_name("2").rename(stage.folder)
    assert told(recipe, stage.folder) == listed


def test_a_start_that_came_to_nothing_and_a_folder_that_was_replaced(apo):
    recipe, stage = apo
    stage.begin()
    assert told(recipe) == {(".1.partial", FREE): "apo/1 as it was begun, and came to no checkpoint"}
    finish(stage)
    old = stage.folder.rename(stage.folder.with_name(".1.old"))
    before = "apo/1 as it was before it was made again"
    assert told(recipe) == {(".1.old", GOES_ON): f"{before}, put back at the next start"}
    aside = old.rename(old.with_name("aside"))
    finish(stage)
    aside.rename(old)
    assert told(recipe, stage.folder) == {(".1.old", FREE): before}
    (one,) = leftovers([recipe], [stage.folder])
    one.remove()
    assert sorted(path.name for path in stage.folder.parent.iterdir()) == ["1"]


def test_rows_and_reference_values_are_made_again_or_gone_on_with(apo):
    recipe, stage = apo
    run = stage.folder.parent.parent
    prepared = run / "prepared" / f"apo-{'0' * 16}"
    write(prepared / "stats.json", json.dumps({"seconds": 600.4}))
    write(run / "prepared" / f".apo-{'1' * 16}.partial" / "rows")
    write(run / "reference" / f"{'a' * 24}.safetensors")
    for place in ("mine", f"sft-{'0' * 16}", f"apo-{'2' * 16}"):
        write(run / "prepared" / place / "notes.txt")
    rows = "rows of apo, prepared again in 10 min where it is trained again"
    values = "reference values of apo, computed again where a member is trained again"
    for current, need in (((stage.folder,), AGAIN), ((), GOES_ON)):
        assert told(recipe, *current) == {
            (prepared.name, need): rows,
            (f"{'a' * 24}.safetensors", need): values,
            (f".apo-{'1' * 16}.partial", FREE): "rows that were not prepared to their end",
        }
    for one in leftovers([recipe], ()):
        one.remove()
    assert sorted(path.name for path in (run / "prepared").iterdir()) == [f"apo-{'2' * 16}", "mine", f"sft-{'0' * 16}"]
    assert list((run / "reference").iterdir()) == []


def test_a_member_that_the_file_does_not_name_is_told_with_who_reads_it(apo, tmp_path):
    recipe, stage = apo
    for name in ("1", "2", "3-at-0.5"):
        finish(Stage(f"apo/{name}", stage.folder.with_name(name), {}, {}))
    (stage.folder.with_name("4")).mkdir()
    write(Stage("apo/5", stage.folder.with_name("5"), {}, {}).begin() / "checkpoint-3" / "model.safetensors")
    gone = "apo/{}, finished, which apo.yaml does not name"
    begun = {(".5.partial", GOES_ON): "apo/5 as it was begun, at step 3; the same command goes on from it"}
    half = {("3-at-0.5", UNNAMED): gone.format("3-at-0.5")}
    assert told(recipe) == begun | half | {("2", UNNAMED): gone.format(2)}

    def with_file(name, values):
        file = tmp_path / name
        file.write_text(json.dumps(values))
        found = leftovers([recipe, load(file, file.stem)], ())
        return {(path.name, one.need): one.told for one in found for path in one.paths}

    run = stage.folder.parent.parent
    for soup in (["1", "2"], ["1", str(run / "apo" / "2")]):
        assert with_file("merge.yaml", {"output_dir": str(run), "soup": {"members": soup}}) == begun | half
    pair = [{"model": model, "parameters": {"weight": 0.5}} for model in ("apo/1", "apo/2")]
    merge = {"merge_method": "linear", "models": pair}
    assert with_file("merge.yaml", {"output_dir": str(run), "merge": merge}) == begun | half
    task = {"name": "p", "kind": "preference", "data": "rows.jsonl"}
    suite = {"output_dir": str(run / "evals"), "models": {"apo": str(run / "apo" / "*")}, "tasks": [task]}
    taken = "; the report shows it, and eval.yaml takes it in"
    assert with_file("eval.yaml", suite)[("2", UNNAMED)] == gone.format(2) + taken
    (one,) = [one for one in leftovers([recipe], ()) if one.paths[0].name == "2"]
    one.remove()
    assert sorted(path.name for path in (run / "apo").iterdir()) == [".5.partial", "1", "3-at-0.5", "4"]


def test_points_are_asked_again_or_gone_on_with(tmp_path):
    run, file = tmp_path / "run", tmp_path / "merge.yaml"
    points = ("sweep_points/mix-0.5", "sweep_points/of+some/.mix-1.0.partial", "sweep_points/mine")
    for place in (*points, "greedy/points/mix-1"):
        write(run / place / "results.json")
    write(run / "greedy" / "greedy.json")
    walk = "scores of the sweep, asked again where it is walked again"
    choice = "scores of the greedy soup, asked again where its members are chosen again"
    values = {"output_dir": str(run), "soup": {"members": "greedy", "metric": "m"}, "sweep": {"weights": [0, 1]}}
    for given, current, needs in (
        (values, (), (GOES_ON, GOES_ON)),
        (values, (run / "sweep",), (AGAIN, GOES_ON)),
        ({"output_dir": str(run)}, (), (AGAIN, AGAIN)),
    ):
        file.write_text(json.dumps(given))
        expected = {("mix-0.5", needs[0]): walk, (".mix-1.0.partial", needs[0]): walk, ("mix-1", needs[1]): choice}
        assert told(load(file, "merge"), *current) == expected
    for one in leftovers([load(file, file.stem)], ()):
        one.remove()
    assert sorted(file.name for file in (run / "sweep_points").iterdir()) == ["mine", "of+some"]
    assert (run / "greedy" / "greedy.json").is_file()


def test_a_point_that_no_file_names_is_listed_and_one_that_is_named_stays(apo, tmp_path):
    recipe, stage = apo
    run, file = stage.folder.parent.parent, recipe.path.with_name("sweep.yaml")
    points = run / "settings_points"
    for name in ("beta=0.2", "beta=0.3"):
        write(points / name / "point.json", "{}")
        write(points / name / "apo" / "1" / "model.safetensors")
    write(points / "mine" / "notes.txt")
    begun = Stage("apo/1", points / "beta=0.2" / "apo" / "1", {}, {}).begin()
    write(begun / "checkpoint-8" / "model.safetensors")
    values = {"stage": recipe.path.stem, "output_dir": str(run / "settings"), "over": {"beta": [0.2]}}
    file.write_text(json.dumps(values))
    found = {one.paths[0].relative_to(points).as_posix(): one for one in leftovers([load(file, "sweep")], ())}
    assert found.keys() == {"beta=0.2/apo/.1.partial", "beta=0.3"}
    assert found["beta=0.2/apo/.1.partial"].need == GOES_ON
    assert "apo/1 of beta=0.2 as it was begun, at step 8" in found["beta=0.2/apo/.1.partial"].told
    assert (found["beta=0.3"].need, found["beta=0.3"].users) == (UNNAMED, (run / "settings",))
    with at_work(run / "settings"), pytest.raises(UserError, match="expected to be the only one at work on it"):
        found["beta=0.3"].remove()
    found["beta=0.3"].remove()
    assert sorted(path.name for path in points.iterdir()) == ["beta=0.2", "mine"]


def test_links_are_not_followed(apo, tmp_path):
    recipe, stage = apo
    shared = write(tmp_path / "elsewhere" / f"apo-{'0' * 16}" / "stats.json", "{}").parent
    run = stage.folder.parent.parent
    run.mkdir()
    (run / "prepared").symlink_to(shared.parent)
    assert told(recipe) == {}
    (run / "prepared").unlink()
    (run / "prepared").mkdir()
    (run / "prepared" / shared.name).symlink_to(shared)
    assert told(recipe) == {}
    own = write(run / "prepared" / f"apo-{'1' * 16}" / "stats.json", "{}").parent
    (own / "cache").symlink_to(shared)
    (one,) = leftovers([recipe], ())
    assert one.bytes == 2
    one.remove()
    assert (shared / "stats.json").read_text() == "{}"


def test_nothing_goes_that_somebody_is_at_work_with(apo):
    recipe, stage = apo
    stage.begin()
    (one,) = leftovers([recipe], ())
    with at_work(stage.folder), pytest.raises(UserError, match="expected to be the only one at work on it, got proc"):
        one.remove()
    assert stage.partial.is_dir()


def test_a_file_that_a_process_of_today_is_writing_stays(apo):
    recipe, stage = apo
    finish(stage)
    living = write(stage.folder.parent / f".x.json.{os.getpid()}")
    dead = write(stage.folder.parent / ".x.json.4194305")
    assert told(recipe, stage.folder) == {}
    for file in (living, dead):
        os.utime(file, (0, 0))
    assert told(recipe, stage.folder) == {(dead.name, FREE): "a file that was not written to its end"}
