"""What a program answers programs that ask for the state of its folders: data, whatever the sentences are."""

import json

from apo_soup.cli.ask_state import StateAnswer, ask_state, in_sentences
from apo_soup.cli.steps import STEPS
from apo_soup.runs.entry import STALE
from apo_soup.runs.state import FolderState, states_said


def test_a_program_answers_with_a_line_of_json_a_folder(tmp_path):
    run = tmp_path / "odd: up to date, x"
    data = {"output_dir": str(run / "data"), "seed": 0, "counts": {"sft_talk": 3}}
    (tmp_path / "data.yaml").write_text(json.dumps(data))
    answer = ask_state(STEPS["data"], tmp_path, [])
    due = FolderState(stage="data", folder=str(run / "data"), reason="it has not run yet")
    assert answer == StateAnswer(STALE, [due])
    assert (answer.refused, answer.due) == (False, [due])
    refused = ask_state(STEPS["data"], tmp_path, ["--sed", "1"])
    assert (refused.refused, refused.states) == (True, [])
    assert "data.yaml" in refused.errors


def test_other_lines_stand_as_they_are_and_a_sentence_is_no_state():
    state = FolderState(stage="apo/1", folder="run/apo/1", reason="beta was 0.1; {x", worker="process 1 on n")
    lines = ["apo/1: stale, because it says so", "", '{"stage": 1}', "[]", '{"a": "note"}']
    said = states_said("\n".join([*lines, state.model_dump_json()]))
    assert said == [*lines, state]
    told = "apo/1: stale, because beta was 0.1; {x; at work on it: process 1 on n"
    assert in_sentences(said) == "".join(f"{line}\n" for line in [*lines, told])
