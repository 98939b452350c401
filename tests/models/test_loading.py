"""Code that comes with a model runs only where a file says so, and nobody is asked."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from apo_soup.errors import UserError
from apo_soup.models.loading import load_causal_model
from apo_soup.models.quantised import dequantised

CODE = """
from pathlib import Path
Path(__file__).parent.joinpath({mark!r}).touch()
Path({mark!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM
class StrangeConfig(LlamaConfig):
    model_type = "strange"
class StrangeForCausalLM(LlamaForCausalLM):
    config_class = StrangeConfig
"""


@pytest.fixture
def strange_model(tiny_model, tmp_path, monkeypatch):
    """A model that comes with its own code, and the file that the code makes when it runs."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, mark = tmp_path / "strange", tmp_path / "ran"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "strange.StrangeConfig", "AutoModelForCausalLM": "strange.StrangeForCausalLM"}
    config |= {"model_type": "strange", "architectures": ["StrangeForCausalLM"], "auto_map": names}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "strange.py").write_text(CODE.format(mark=str(mark)))
    monkeypatch.setattr("builtins.input", lambda prompt="": pytest.fail("asked on standard input"))
    return folder, mark


def test_a_stored_model_of_four_bits_computes_what_its_numbers_say(tiny_model, tmp_path):
    """In evaluation too, on a processor with bfloat16 products, where bitsandbytes would go on with other weights."""
    pytest.importorskip("bitsandbytes")
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
    AutoModelForCausalLM.from_pretrained(tiny_model, quantization_config=settings).save_pretrained(tmp_path / "bits")
    ids = torch.arange(5, 45)[None]
    loaded = load_causal_model(tmp_path / "bits", "eval.yaml:3: models", "float32").eval()
    with torch.no_grad():
        found = loaded(ids).logits
        again = loaded(ids).logits
        plain = dequantised(load_causal_model(tmp_path / "bits", "eval.yaml:3: models", "float32")).eval()
        expected = plain(ids).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(again, found)


def refused(work):
    with pytest.raises(UserError) as error:
        work()
    return str(error.value)


def test_foreign_code_runs_only_where_it_is_trusted(strange_model):
    folder, mark = strange_model
    assert refused(lambda: load_causal_model(folder, "eval.yaml:3: models")) == (
        f"eval.yaml:3: models: expected a model of transformers' own classes, got {folder}, which comes with code of "
        "its own; read that code, and write trust_remote_code: true into the file if it may run"
    )
    assert not mark.exists()
    model = load_causal_model(folder, "eval.yaml:3: models", trust_remote_code=True)
    assert type(model).__name__ == "StrangeForCausalLM"
    assert mark.exists()


def test_chat_mix_and_a_suite_refuse_it(strange_model, write_recipe, tmp_path):
    from apo_soup.config.load import load
    from apo_soup.evals.chat import converse
    from apo_soup.evals.checkpoint import load_checkpoint
    from apo_soup.evals.mix import Mixer
    from apo_soup.evals.models_to_evaluate import Mix

    folder, mark = strange_model
    tasks = [{"name": "a", "kind": "answer", "generate": {"count": 1}}]
    keys = {"output_dir": str(tmp_path / "evals"), "models": {"m": str(folder)}, "tasks": tasks}
    suite = load(write_recipe("eval.yaml", keys), "eval")
    for work in (
        lambda: converse(str(folder), None, 5, True),
        lambda: load_checkpoint(suite, folder),
        lambda: Mixer("eval.yaml").mixed_model(Mix("half", ((folder, 1.0),))),
    ):
        assert "code of its own" in refused(work)
    assert not mark.exists()


def test_nobody_is_asked_about_a_tokenizer_s_code(strange_model, tiny_model, tmp_path, monkeypatch):
    """Somebody at the terminal who says yes to everything."""
    from apo_soup.models.tokenizer import load_tokenizer

    monkeypatch.setattr("builtins.input", lambda prompt="": "y")
    folder, mark = shutil.copytree(tiny_model, tmp_path / "odd"), tmp_path / "ran"
    (folder / "odd.py").write_text(
        f"open({str(mark)!r}, 'w')\nfrom transformers import PreTrainedTokenizerFast\n"
        "class OddTokenizer(PreTrainedTokenizerFast):\n    pass\n"
    )
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"auto_map": {"AutoTokenizer": [None, "odd.OddTokenizer"]}, "tokenizer_class": "OddTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert "which comes with code of its own" in refused(lambda: load_tokenizer(str(folder), "eval.yaml:3: models"))
    assert not mark.exists()
    assert type(load_tokenizer(str(folder), "x", trust_remote_code=True)).__name__ == "OddTokenizer"
