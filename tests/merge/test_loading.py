"""A merged folder is loaded before it is called whole."""

import pytest
import torch
from merge_helpers import set_config
from safetensors.torch import load_file, save_file

from apo_soup.errors import UserError
from merge.loading import check_loads


def test_what_does_not_fit_its_configuration_is_named(run, capsys):
    folder, parent = run / "mid", run / "apo" / "1"
    check_loads(folder, [parent], "here")
    file = folder / "model.safetensors"
    good = load_file(file)
    harms = {
        r"expected a tensor for model\.norm\.weight, got none; merge": {
            k: v for k, v in good.items() if k != "model.norm.weight"
        },
        r"expected no tensor stray, which the configuration has no place for, got one": good | {"stray": torch.ones(2)},
        r"expected tensor model\.norm\.weight in the shape": good | {"model.norm.weight": torch.ones(16)},
    }
    for told, tensors in harms.items():
        save_file(tensors, file, metadata={"format": "pt"})
        with pytest.raises(UserError, match=f"the merged folder: {told}"):
            check_loads(folder, [parent], "here")
    assert capsys.readouterr().out == ""


def test_what_a_parent_leaves_over_is_told_and_its_own_code_is_not_run(run, capsys):
    for folder in (run / "mid", run / "apo" / "1"):
        file = folder / "model.safetensors"
        save_file(load_file(file) | {"stray": torch.ones(2)}, file, metadata={"format": "pt"})
    check_loads(run / "mid", [run / "apo" / "1"], "here")
    told = "note: here: transformers reads no tensor stray, in the merged folder as in its parents\n"
    assert capsys.readouterr().out == told
    set_config(run / "mid", model_type="nobodys")
    check_loads(run / "mid", [], "here")
    assert "here: the merged folder is not loaded, for the model comes with its own code" in capsys.readouterr().out
