"""What goes to mergekit, and what of a merge file mergekit would pass over."""

import json

import pytest
import torch
import yaml
from helpers import state_dict
from merge_helpers import PAIR
from programs import run_ok
from safetensors.torch import load_file, save_file

from apo_soup.errors import UserError


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("slerp", {"base_model": "soup", "parameters": {"t": 0.1}}),
        ("ties", {"base_model": "mid", "parameters": {"density": 0.5}}),
        ("task_arithmetic", {"base_model": "mid", "parameters": {"normalize": False}}),
    ],
)
def test_other_methods_are_mergekits_own(run, merge_run, tmp_path, method, settings):
    models = [{"model": "soup", "parameters": {"weight": 0.9}}, {"model": "mid", "parameters": {"weight": 0.1}}]
    if method == "slerp":
        models = [{"model": "soup"}, {"model": "mid"}]
    config = {"merge_method": method, "dtype": "float32", "models": models, **settings}
    merge_run(merge=config)
    text = (
        yaml.safe_dump(config).replace("model: soup", f"model: {run}/soup").replace("model: mid", f"model: {run}/mid")
    )
    (tmp_path / "plain.yaml").write_text(text)
    script = "from mergekit.scripts.run_yaml import main; main()"
    words = [str(tmp_path / "plain.yaml"), str(tmp_path / "plain"), "--no-write-model-card"]
    run_ok("-c", script, *words)
    theirs = state_dict(tmp_path / "plain")
    for name, tensor in state_dict(run / "merged").items():
        assert torch.equal(tensor, theirs[name]), name
    assert json.loads((run / "merged" / "manifest.json").read_text())["metrics"]["by"] == "mergekit"


def test_what_our_sum_would_do_otherwise_goes_to_mergekit(run, merge_run, tmp_path):
    """Without a dtype mergekit keeps and promotes the types that the inputs have, tensor by tensor."""
    file = run / "mid" / "model.safetensors"
    save_file({k: v.bfloat16() for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
    models = [{"model": m, "parameters": {"weight": w}} for m, w in (("soup", 0.9), ("mid", 0.1))]
    merge_run(merge={"merge_method": "linear", "models": models})
    assert json.loads((run / "merged" / "manifest.json").read_text())["metrics"]["by"] == "mergekit"
    assert {t.dtype for t in state_dict(run / "merged").values()} == {torch.float32}
    assert json.loads((run / "merged" / "config.json").read_text())["dtype"] == "float32"
    sliced = [
        {"sources": [{"model": m, "layer_range": [0, 4], "parameters": {"weight": 0.5}} for m in ("soup", "mid")]}
    ]
    merge_run(merge={"merge_method": "linear", "dtype": "float32", "slices": sliced})
    soup, mid = state_dict(run / "soup"), state_dict(run / "mid")
    for name, tensor in state_dict(run / "merged").items():
        torch.testing.assert_close(tensor, (soup[name] + mid[name].float()) / 2, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"merge": {"merge_method": "linear", "models": ["soup", "mid"]}},
            r"merge\.models\.0: expected a mapping with model, got 'soup'; write {model: soup}",
        ),
        (
            {"merge": {"merge_method": "linear", "parameters": [1], "models": []}},
            r"merge\.parameters: expected a mapping, got \[1\]",
        ),
        (
            {"merge": {"merge_method": "linear", "dtype": "float32"}},
            r"merge\.models: expected models to merge, or slices",
        ),
        ({"options": {"safe_serialization": False}}, "weights are always safetensors"),
        ({"one_pass": True, "options": {"cuda": True}}, r"options: expected none with one_pass: true"),
        ({"options": {"cuda": True}}, r"options\.cuda: expected a GPU, got none"),
        (
            {"options": {"num_thread": 2}},
            r"options\.num_thread: expected a key of mergekit's .* nearest is num_threads",
        ),
        ({"options": {"allow_crimes": True}}, "models of different architectures are refused first"),
        (
            {"soup": {"members": "all", "dtype": "int64"}},
            r"soup\.dtype: expected one of float64, float32, float16, bfloat16, got 'int64'",
        ),
        (
            {"long_context": {"original_max_position_embeddings": 512}},
            r"long_context\.factor: expected a number above 1.*, got nothing",
        ),
        (
            {"merge": PAIR | {"merge_method": "liner"}},
            "merge_method: expected a method of mergekit's, got liner; the nearest is linear",
        ),
        (
            {"merge": PAIR | {"dtype": "floaty"}},
            r"merge\.dtype: expected one of float64, float32, float16, bfloat16, got 'floaty'",
        ),
        (
            {"merge": PAIR | {"chat_template": "chatmll"}},
            r"merge\.chat_template: expected Jinja text or one of auto, .*, got chatmll",
        ),
        (
            {"merge": PAIR | {"merge_method": "ties"}},
            r"merge\.base_model: expected the model that ties starts from, got none",
        ),
        ({"merge": PAIR | {"tokenizer": {"sorce": "union"}}}, r"merge\.tokenizer\.sorce: expected a key of mergekit's"),
        ({"merge": PAIR | {"tokenizer_source": "unoin"}}, "got unoin; the nearest is union"),
        (
            {"merge": PAIR | {"models": [{"model": "/no/where@main", "parameters": {"weight": 1.0}}]}},
            r"got /no/where@main \(looked for /no/where@main\)",
        ),
        (
            {
                "merge": {
                    "merge_method": "linear",
                    "slices": [
                        {
                            "sources": [
                                {"model": m, "layer_range": [0, 4], "paramters": {"weight": 1}} for m in ("soup", "mid")
                            ]
                        }
                    ],
                }
            },
            r"merge\.slices\.0\.sources\.0\.paramters: expected a key of mergekit's",
        ),
        (
            {
                "merge": {
                    "merge_method": "ties",
                    "base_model": "mid",
                    "dtype": "float32",
                    "parameters": {"densty": 1},
                    "models": [{"model": "soup"}, {"model": "mid"}],
                }
            },
            r"parameters: expected those of ties \(.*\), got densty, which no method .* has; the nearest is density",
        ),
    ],
)
def test_a_file_that_says_nothing_sensible_is_one_sentence(run, merge_run, changes, told):
    with pytest.raises(UserError, match=told):
        merge_run(**changes)
    assert not (run / "merged").exists()


def test_options_reach_mergekit_as_they_are(run, merge_run, monkeypatch):
    """A GPU is made believe, and mergekit's own function is watched and then run without one."""
    import mergekit.merge
    from mergekit.options import MergeOptions

    seen = []
    original = mergekit.merge.run_merge

    def watched(config, out_path, options):
        seen.append(options)
        return original(config, out_path, MergeOptions(copy_tokenizer=options.copy_tokenizer, quiet=True))

    monkeypatch.setattr(mergekit.merge, "run_merge", watched)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    merge_run(merge=PAIR, options={"cuda": True, "low_cpu_memory": True, "num_threads": 1})
    assert len(seen) == 2, "soup and merge"
    options = seen[-1]
    assert (options.cuda, options.low_cpu_memory, options.num_threads) == (True, True, 1)
    assert torch.get_num_threads() == 1
    assert json.loads((run / "merged" / "manifest.json").read_text())["metrics"]["by"] == "mergekit"


def test_a_parameter_of_another_method_is_told_and_passed_over(run, merge_run, capsys):
    """As mergekit passes over it: files keep their `weight` when their method changes."""
    models = [{"model": m, "parameters": {"weight": 0.5}} for m in ("soup", "mid")]
    slerp = {"merge_method": "slerp", "base_model": "soup", "dtype": "float32", "models": models}
    merge_run(merge={**slerp, "parameters": {"t": 0.25}})
    assert "merge.parameters: slerp has no parameter weight and passes over it" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"got wieght, which no method of mergekit's has; the nearest is weight"):
        merge_run(merge={**slerp, "parameters": {"t": 0.25, "wieght": 1}})


def test_a_model_that_does_not_name_its_class_is_refused(run, merge_run):
    settings = json.loads((run / "mid" / "config.json").read_text())
    settings["architectures"] = ["One", "Two"]
    (run / "mid" / "config.json").write_text(json.dumps(settings))
    slices = [{"sources": [{"model": "mid", "layer_range": [0, 2]}]}]
    with pytest.raises(
        UserError, match=r"mid/config\.json: architectures: expected one class .*, got \['One', 'Two'\]"
    ):
        merge_run(merge={"merge_method": "passthrough", "dtype": "float32", "slices": slices})
