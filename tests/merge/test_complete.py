"""What a merged folder holds beside its weights: tokenizer, generation settings, long context, card."""

import json

import pytest
import torch
from programs import run_ok

from apo_soup.errors import UserError


def test_the_merged_folder_is_complete_and_runs_without_this_project(run, merge_file, tmp_path):
    run_ok("-m", "merge", "--config", merge_file())
    settings = json.loads((run / "merged" / "generation_config.json").read_text())
    assert (settings["temperature"], settings["top_p"], settings["do_sample"]) == (0.6, 0.95, True)
    code = (
        "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer; folder = sys.argv[1];"
        "m = AutoModelForCausalLM.from_pretrained(folder); t = AutoTokenizer.from_pretrained(folder);"
        "p = t.apply_chat_template([{'role': 'user', 'content': 'Hi'}], add_generation_prompt=True,"
        " enable_thinking=False, return_tensors='pt', return_dict=True);"
        "assert t.decode(p['input_ids'][0]).endswith('<think>\\n\\n</think>\\n');"
        "o = m.generate(**p, max_new_tokens=4); print(m.generation_config.eos_token_id, t.eos_token_id, o.shape[1])"
    )
    assert run_ok("-c", code, run / "merged", cwd=tmp_path).startswith("[2] 2 ")


def test_a_long_context_is_asked_for_in_the_configuration_and_works(run, merge_run):
    from transformers import AutoModelForCausalLM

    merge_run(long_context={"factor": 2.0, "original_max_position_embeddings": 512})
    config = json.loads((run / "merged" / "config.json").read_text())
    assert config["max_position_embeddings"] == 1024
    rope = config["rope_parameters"]
    assert (rope["rope_type"], rope["factor"], rope["original_max_position_embeddings"]) == ("yarn", 2.0, 512)
    model = AutoModelForCausalLM.from_pretrained(run / "merged")
    with torch.no_grad():
        scores = model(torch.arange(10, 900)[None] % 1000, use_cache=False).logits
    assert scores.isfinite().all()
    plain = AutoModelForCausalLM.from_pretrained(run / "soup")
    assert plain.config.rope_parameters["rope_type"] == "default"
    assert plain.config.rope_parameters["rope_theta"] == rope["rope_theta"]


@pytest.mark.parametrize(
    ("before", "rope"),
    [
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5, "partial_rotary_factor": 0.5}},
         {"rope_theta": 5e5, "partial_rotary_factor": 0.5}),
        ({"rope_theta": 1e4, "rope_scaling": {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 256,
                                             "beta_fast": 16}},
         {"rope_theta": 1e4, "original_max_position_embeddings": 256, "beta_fast": 16}),
    ],
)  # fmt: skip
def test_yarn_keeps_what_a_model_says_of_its_positions(before, rope):
    from apo_soup.config.merge import LongContextKeys
    from merge.complete import yarn_config

    config = yarn_config({"max_position_embeddings": 512, **before}, LongContextKeys(factor=4.0), "here")
    assert "rope_scaling" not in config
    assert "rope_theta" not in config
    expected = {"original_max_position_embeddings": 512, **rope, "rope_type": "yarn", "factor": 4.0}
    assert config["rope_parameters"] == expected
    assert config["max_position_embeddings"] == 4 * expected["original_max_position_embeddings"]
    layered = {"rope_parameters": {"full": {"rope_type": "default"}}, "max_position_embeddings": 512}
    with pytest.raises(UserError, match="expected one rope for all layers"):
        yarn_config(layered, LongContextKeys(factor=2.0), "here")


def test_parents_settings_of_generation_are_kept(run, merge_run):
    settings = {"do_sample": False, "repetition_penalty": 1.1, "max_new_tokens": 77}
    (run / "apo" / "1" / "generation_config.json").write_text(json.dumps(settings))
    merge_run()
    merged = json.loads((run / "merged" / "generation_config.json").read_text())
    assert settings.items() <= merged.items()
    assert merged["eos_token_id"] == [2]
    assert "temperature" not in merged


def test_the_card_tells_what_was_mixed_and_where_it_came_from(run, merge_run):
    made = {"stage": "apo/1", "outputs": {}, "inputs": {"model": "ab" * 32}, "config": {"beta": 0.05, "seed": 3}}
    for number in "123":
        (run / "apo" / number / "manifest.json").write_text(json.dumps(made))
    merge_run()
    card = (run / "soup" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "1. apo/1: from model abababababab, beta 0.05, seed 3\n" in card
    assert "model: apo/2" in card
    assert str(run) not in card
    assert "weight: 0.9" in (run / "merged" / "README.md").read_text()


def test_ends_of_another_tokenizer_do_not_stand_in_the_settings(run, capsys):
    from merge.complete import generation_settings

    settings = generation_settings({"eos_token_id": [128_009, 700, -1]}, {}, run / "mid")
    assert settings["eos_token_id"] == [2, 700]
    notes = capsys.readouterr().out.splitlines()
    assert notes[0] == "note: generation_config.json: eos_token_id 128009 is no token of the model, and is left out"
    assert "eos_token_id -1 is no token" in notes[1]
    assert notes[2].startswith("note: generation_config.json: eos_token_id 700 is an ordinary token of the model, '")
