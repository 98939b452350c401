"""Stages as folders: absent or whole, stale for a reason."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from apo_soup.errors import UserError, told_by_disk
from apo_soup.runs.manifest import differences
from apo_soup.runs.put_in_place import replace_folder, restore
from apo_soup.runs.stage import Stage


@pytest.fixture
def stage(tmp_path):
    return lambda **config: Stage("sft", tmp_path / "run" / "sft", config, {"model": "aaa"})


def finish(stage):
    final = stage.begin() / "final"
    final.mkdir()
    (final / "model.safetensors").write_bytes(b"weights")
    stage.finish(final, {"loss": 1.0})


def test_a_launch_of_another_number_of_processes_is_told_and_makes_nothing_stale(stage, monkeypatch):
    finish(stage(seed=1))
    assert stage(seed=1).processes_note() is None
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert "was made by a launch of 1 and this one has 4 processes, whose global" in stage(seed=1).processes_note()
    assert stage(seed=1).stale() is None
    assert stage(global_batch_size=8).processes_note() is None


def test_a_stage_is_absent_then_whole_then_stale_for_a_reason(stage):
    first = stage(seed=1)
    assert first.stale() == "it has not run yet"
    first.begin()
    assert first.stale() == "it was begun and not finished"
    assert not first.folder.exists()
    finish(first)
    assert first.stale() is None
    assert [f.name for f in first.folder.parent.iterdir()] == ["sft"]
    assert stage(seed=2).stale() == "seed was 1 and is 2"
    changed = Stage("sft", first.folder, {"seed": 1}, {"model": "bbb", "rows x": "c"})
    assert changed.stale() == "model changed; rows x is new"


def test_a_partial_folder_is_kept_for_the_same_work_and_emptied_for_other_work(stage):
    stage(seed=1).begin()
    kept = stage(seed=1).partial / "checkpoint-1"
    kept.mkdir()
    stage(seed=1).begin()
    assert kept.exists()
    assert "seed was 1 and is 2" in stage(seed=2).stale()
    stage(seed=2).begin()
    assert not kept.exists()
    aside = kept.parent.parent / f".sft.replaced-{stage(seed=1).fingerprint[:6]}"
    assert (aside / "checkpoint-1").exists()
    assert f"goes on as it was before; its checkpoints move to {aside.parent}" in stage(seed=1).stale()
    stage(seed=1).begin()
    assert kept.exists(), "what is asked for again goes on"


def test_a_try_with_arguments_takes_nothing_of_the_training_of_the_file(stage):
    """Killed after days, then `ARGS='--max_steps 1'` to see whether the machine is sound."""
    days = stage(max_steps=9)
    days.begin()
    (days.partial / "checkpoint-8").mkdir()
    for steps in (1, 2):
        tried = stage(max_steps=steps)
        tried.arguments = ["--max_steps", str(steps)]
        finish(tried)
        tried.tidy()
        assert tried.stale() is None
    assert days.stale() == "max_steps was 2 and is 9"
    assert days.begin().joinpath("checkpoint-8").is_dir()
    finish(days)
    assert [f.name for f in days.folder.parent.iterdir()] == ["sft"]


def test_what_somebody_put_into_a_finished_folder_is_not_replaced(stage):
    finish(stage(seed=1))
    converted = stage().folder / "converted" / "model.gguf"
    converted.parent.mkdir()
    converted.touch()
    (stage().folder / ".DS_Store").touch()
    (stage().folder / "README.md").touch()
    assert stage(seed=1).stale() is None
    with pytest.raises(UserError, match=r"sft: expected to replace .*, got converted/model.gguf in it, which it did"):
        stage(seed=2).begin()
    assert converted.exists()
    converted.rename(converted.with_name("README.md"))
    with pytest.raises(UserError, match=r"sft: expected to replace .*, got converted/README.md in it, which it did"):
        stage(seed=2).begin()
    converted.with_name("README.md").unlink()
    finish(stage(seed=2))
    assert stage(seed=2).stale() is None


def test_what_comes_into_the_place_of_a_folder_while_it_is_made_is_kept(stage, capsys):
    notes = stage().folder / "notes.txt"
    for seed, text in ((1, "mine"), (2, "mine too")):
        begun = stage(seed=seed)
        begun.begin()
        result = begun.result_folder()
        notes.parent.mkdir(exist_ok=True)
        notes.write_text(text)
        begun.finish(result, {})
        assert not notes.exists()
        assert begun.stale() is None
    kept = [begun.folder.with_name(f"sft.found-{number}") for number in (1, 2)]
    assert [(folder / "notes.txt").read_text() for folder in kept] == ["mine", "mine too"]
    told = f"warning: sft: notes.txt was put into {begun.folder} while it was made; it is kept in {kept[0]}"
    assert capsys.readouterr().out.splitlines()[0] == told


def test_a_file_beside_the_weights_that_a_library_would_read_makes_the_folder_stale(stage):
    finish(stage(seed=1))
    added = stage().folder / "adapter_config.json"
    added.write_text("{}")
    assert stage(seed=1).stale() == "adapter_config.json was put into it since it was made"
    added.unlink()
    (stage().folder / "notes.txt").touch()
    assert stage(seed=1).stale() is None


def test_the_card_of_an_adapter_may_be_written_again(stage):
    begun = stage(seed=1)
    begun.begin()
    adapter = begun.result_folder() / "adapter"
    adapter.mkdir()
    for name in ("README.md", "adapter_model.safetensors"):
        (adapter / name).write_text("1")
    begun.finish(adapter.parent, {})
    card = stage().folder / "adapter" / "README.md"
    card.write_text("what a person writes for the Hub")
    assert stage(seed=1).stale() is None
    stage(seed=2).begin()
    (card.parent / "adapter_model.safetensors").unlink()
    assert stage(seed=1).stale() == "adapter/adapter_model.safetensors is missing since it was made"


def test_a_manifest_says_what_made_the_folder(stage):
    finish(stage(seed=1))
    manifest = json.loads((stage().folder / "manifest.json").read_text())
    assert manifest["config"] == {"seed": 1}
    assert manifest["inputs"] == {"model": "aaa"}
    assert manifest["metrics"] == {"loss": 1.0}
    assert manifest["outputs"]["model.safetensors"]["bytes"] == 7
    assert manifest["versions"]["trl"]
    assert manifest["peak_memory_mb"] > 0
    assert manifest["seconds"] >= 0
    assert differences(manifest, {"seed": 1}, {"model": "aaa"}) == []


def test_a_folder_begun_with_other_processes_is_not_mixed(stage, monkeypatch):
    stage(seed=1).begin()
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UserError, match="sft: expected 1 processes, as it was begun with, got 4; launch with as many"):
        stage(seed=1).begin()


def test_a_fingerprint_holds_name_configuration_and_inputs(stage):
    first = stage(seed=1)
    assert first.fingerprint == stage(seed=1).fingerprint
    others = [stage(seed=2), Stage("mid", first.folder, {"seed": 1}, {"model": "aaa"})]
    others.append(Stage("sft", first.folder, {"seed": 1}, {"model": "bbb"}))
    assert first.fingerprint not in [other.fingerprint for other in others]
    assert Stage("sft", first.folder.parent, {"seed": 1}, {"model": "aaa"}).fingerprint == first.fingerprint


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for name in ("new", "final"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    replace_folder(tmp_path / "new", tmp_path / "final")
    assert [f.name for f in tmp_path.rglob("*")] == ["final", "new"]
    assert (tmp_path / "final" / "new").is_file()


def test_a_finished_folder_is_held_to_its_manifest(stage):
    first = stage(seed=1)
    finish(first)
    weights = first.folder / "model.safetensors"
    made = weights.stat()
    os.utime(weights)
    assert first.stale() is None, "a copy has other times and the same content"
    weights.write_bytes(b"weighty")
    assert first.stale() == "model.safetensors has changed since it was made"
    weights.write_bytes(b"weight")
    assert first.stale() == "model.safetensors has 6 bytes, not 7 since it was made"
    weights.unlink()
    assert first.stale() == "model.safetensors is missing since it was made"
    weights.write_bytes(b"weights")
    os.utime(weights, ns=(made.st_atime_ns, made.st_mtime_ns))
    assert first.stale() is None
    (first.folder / "README.md").write_text("a card is written again when there are scores")
    assert first.stale() is None


def test_files_beside_the_model_are_held_to_the_manifest_too(stage):
    first = stage(seed=1)
    first.begin()
    final = first.result_folder()
    (final / "below").mkdir()
    (final / "below" / "rows.jsonl").write_text("{}\n")
    first.finish(final, {})
    (first.folder / "below" / "rows.jsonl").write_text("")
    assert first.stale() == "below/rows.jsonl has 0 bytes, not 3 since it was made"


BEGUN_WITH_A_NUMBER = '{"fingerprint": 1, "config": {}, "inputs": {}, "processes": 1}'


@pytest.mark.parametrize("text", ["", "{", "[]", '{"stage": "sft"}', '{"stage": "sft", "fingerprint": 3}', "null"])
def test_a_manifest_that_is_cut_is_one_sentence_with_the_cure(stage, text):
    first = stage(seed=1)
    finish(first)
    (first.folder / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"sft.*: expected .*; move .*sft away and run the stage that makes it"):
        first.stale()


@pytest.mark.parametrize("records", [None, [], {"model.safetensors": {}}, {"a": 1}, {"a": {"bytes": 1, "sha256": "x"}}])
@pytest.mark.parametrize("key", ["outputs", "files"])
def test_records_of_another_form_are_one_sentence_too(stage, key, records):
    first = stage(seed=1)
    finish(first)
    file = first.folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: records}))
    with pytest.raises(UserError, match=f"manifest.json: (expected )?{key}.*, got .*; move .*sft away and run"):
        first.stale()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"fingerprint": "x"}', BEGUN_WITH_A_NUMBER, "[" * 10**5])
def test_a_begun_folder_whose_mark_is_cut_is_made_anew_where_nothing_is_lost(stage, text):
    first = stage(seed=1)
    first.begin()
    (first.partial / "begun.json").write_text(text)
    first.result_folder().joinpath("half").touch()
    assert first.stale() == "it has not run yet"
    first.begin()
    assert first.stale() == "it was begun and not finished"
    assert list(first.result_folder().iterdir()) == []


@pytest.mark.parametrize("text", [None, "", "{", "[]", BEGUN_WITH_A_NUMBER, "another fingerprint"])
@pytest.mark.parametrize("work", ["checkpoint-8/model.safetensors", "answers.jsonl"])
def test_no_work_is_lost_or_passed_over_with_a_mark_that_cannot_be_read(stage, text, work, capsys):
    days = stage(seed=1)
    kept = days.begin() / work
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("days")
    spoil(days.partial, text)
    told = r"\.sft\.partial/begun\.json: .*expected .*, got .*; put that file back to go on, or move its folder else"
    for asked in (days, stage(seed=2)):
        for refused in (asked.stale, asked.begin):
            with pytest.raises(UserError, match=told):
                refused()
    aside = days.partial.rename(days.partial.with_name(".sft.replaced"))
    finish(stage(seed=2))
    stage(seed=2).tidy()
    assert "warning: sft: " in (printed := capsys.readouterr().out)
    assert printed.count(f"{aside}/begun.json: ") == 2
    aside.rename(days.partial)
    stage(seed=2).tidy()
    assert f"warning: sft: {days.partial}/begun.json: " in capsys.readouterr().out
    days.partial.rename(aside := days.partial.with_name(f".sft.replaced-{days.fingerprint[:6]}"))
    for refused in (days.stale, days.begin):
        with pytest.raises(UserError, match=told.replace("partial", "replaced-......")):
            refused()
    assert (aside / work).read_text() == "days"


def spoil(folder, text):
    mark = folder / "begun.json"
    if text is None:
        mark.unlink()
    elif text == "another fingerprint":
        fingerprint = json.loads(mark.read_text())["fingerprint"]
        mark.write_text(mark.read_text().replace(fingerprint, fingerprint[::-1]))
    else:
        mark.write_text(text)


def test_a_mark_of_an_older_release_holds(stage):
    mark = stage(seed=1).begin() / "begun.json"
    (mark.parent / "checkpoint-8").mkdir()
    mark.write_text(json.dumps({k: v for k, v in json.loads(mark.read_text()).items() if k != "content"}))
    assert stage(seed=1).stale() == "it was begun and not finished"


def test_what_a_removal_leaves_that_is_killed_has_its_mark(stage, monkeypatch):
    first = stage(seed=1)
    (first.begin() / "checkpoint-8").mkdir()
    (first.partial / "checkpoint-8" / "model.safetensors").touch()
    removed, rmtree = [], shutil.rmtree

    def seen(folder, *args, **kwargs):
        removed.append((folder.name, (first.partial / "begun.json").is_file()))
        rmtree(folder, *args, **kwargs)

    result = first.result_folder()
    monkeypatch.setattr(shutil, "rmtree", seen)
    first.finish(result, {})
    assert ("checkpoint-8", True) in removed
    assert [f.name for f in first.folder.parent.iterdir()] == ["sft"]


def test_nothing_of_a_killed_run_comes_into_the_folder(stage):
    first = stage(seed=1)
    first.begin()
    (first.result_folder() / "half").touch()
    assert list(first.result_folder().iterdir()) == []


def test_what_is_left_of_an_ended_run_is_removed_and_another_one_stays(stage):
    first = stage(seed=1)
    finish(first)
    (first.folder.parent / ".sft.old").mkdir()
    (first.begin() / "checkpoint-8").mkdir()
    first.tidy()
    assert [f.name for f in first.folder.parent.iterdir()] == ["sft"]
    stage(seed=2).begin()
    first.tidy()
    assert stage(seed=2).partial.is_dir(), "days of another training"


def test_a_folder_that_stepped_aside_for_one_that_never_came_is_put_back(stage):
    first = stage(seed=1)
    finish(first)
    first.folder.rename(first.folder.with_name(".sft.old"))
    restore(first.folder)
    assert first.stale() is None


def test_a_refusal_of_the_disk_is_one_sentence():
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    written = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")
    for error, told in ((full, "No space left on device"), (written, "a file that could not be written to its end")):
        with pytest.raises(UserError, match=f"sft: final: expected to read and write there, got {told}; free or mend"):
            raise_inside(error)
    told_already = UserError("rows.jsonl: expected rows that can be read, got Permission denied")
    for error in (FileExistsError(errno.EEXIST, "File exists"), ValueError("No space left on device"), told_already):
        with pytest.raises(type(error)):
            raise_inside(error)


def raise_inside(error):
    with told_by_disk("sft", Path("final")):
        raise error


def test_work_that_another_version_goes_on_with_is_told_of_and_recorded(stage, monkeypatch, capsys):
    monkeypatch.setattr("apo_soup.runs.stage.versions", lambda: {"torch": "2.8", "trl": "1"})
    (stage(seed=1).begin() / "checkpoint-8").mkdir()
    monkeypatch.setattr("apo_soup.runs.stage.versions", lambda: {"torch": "2.9", "trl": "1"})
    monkeypatch.setattr("apo_soup.runs.manifest.versions", lambda: {"torch": "2.9", "trl": "1"})
    stage(seed=1).begin()
    assert "warning" not in capsys.readouterr().out, "there was no work of the other version"
    (stage(seed=1).partial / "checkpoint-8" / "optimizer.pt").touch()
    for module in ("stage", "manifest"):
        monkeypatch.setattr(f"apo_soup.runs.{module}.versions", lambda: {"torch": "3.0", "trl": "1"})
    stage(seed=1).begin()
    finish(stage(seed=1))
    told = "warning: sft: begun with torch 2.9 (now 3.0); what comes out may differ from what one version makes of it"
    assert capsys.readouterr().out.count(told) == 2, "however often it is stopped"
    manifest = json.loads((stage(seed=1).folder / "manifest.json").read_text())
    assert manifest["begun_with_versions"] == {"torch": "2.9"}
