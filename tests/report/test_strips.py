"""Shares by where items stand: families of a language together, lengths and turns in order."""

from apo_soup.report.run_files import RunFiles
from apo_soup.report.strips import answers_by_language, language_columns, recall_columns, strips_section, turn_columns
from apo_soup.runs.results import EvaluatedCheckpoint


def test_families_of_a_language_are_taken_together(results):
    told = results("sft", 36, 34, 24)
    for name, items in (("add-fr", [1, 1, 0]), ("walk-fr", [0]), ("walk-de", [1, 1])):
        told["metrics"][f"problems/think/{name}"] = {"value": 0.5, "n": len(items), "headline": False, "items": items}
    stage = EvaluatedCheckpoint("sft", told, None)
    assert answers_by_language(stage) == {("problems", "think"): {"fr": [1, 1, 0, 0], "de": [1, 1]}}
    (column,) = language_columns(stage).items()
    assert column[0] == "think"
    assert {place: round(score.value, 3) for place, score in column[1].items()} == {"": 0.667, "fr": 0.5, "de": 1.0}
    assert round(column[1]["fr"].low, 2) == 0.15
    assert language_columns(EvaluatedCheckpoint("sft", results("sft", 36, 34, 24), None)) == {}


def test_recall_stands_by_length_and_depth(results):
    columns = recall_columns(EvaluatedCheckpoint("sft", results("sft", 36, 34, 24), None))
    assert list(columns) == ["128", "1536"]
    assert list(columns["1536"]) == ["", "0%", "50%", "100%"]
    assert columns["1536"][""].value == 0.85


def test_a_strip_has_a_part_for_every_place_and_numbers_stand_below(demo_run):
    from apo_soup.report.run_files import read_run

    run = read_run(demo_run)
    section = strips_section(run)
    recall, turns, languages, loss = section.blocks[0].figures
    assert [figure.title for figure in (recall, turns, languages)] == [
        "Recall by context length", "Mode kept over turns", "Right answers by language",
    ]  # fmt: skip
    assert loss.title == "Loss by position"
    assert len(recall.content.rows) == len(run.checkpoints) == 8
    assert [cell.text for cell in recall.content.rows[-1]] == ["merged", "1.00", "1.00", "0.90"]
    assert len(recall.content.rows[-1][1].strip.parts) == 5
    assert [cell.text for cell in turns.content.header] == [
        "", "think", "think to no think", "no think", "no think to think",
    ]  # fmt: skip
    assert len(languages.content.rows[0][1].strip.parts) == 6
    numbers = section.blocks[1].parts
    assert [len(table.rows) for table in numbers] == [8 * 3, 8 * 4, 8 * 2]
    assert list(turn_columns(run.by_name["sft"])["think"])[1] == "turn 1"
    assert strips_section(RunFiles(demo_run, [], {})).blocks == []
