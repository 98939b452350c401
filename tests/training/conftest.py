"""Adapters trained in this process."""

import pytest
import torch
from adapter_helpers import IDS, ROWS
from apo_helpers import PAIRS, train_members
from helpers import TRAINING
from transformers import AutoModelForCausalLM, AutoTokenizer


@pytest.fixture
def base_of(tiny_model, tmp_path):
    """The tiny model, or the same with a head of its own."""

    def make(tied):
        if tied:
            return tiny_model
        model = AutoModelForCausalLM.from_pretrained(tiny_model, tie_word_embeddings=False)
        torch.manual_seed(1)
        model.lm_head.weight = torch.nn.Parameter(0.1 * torch.randn(model.lm_head.weight.shape))
        model.save_pretrained(tmp_path / "untied")
        AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "untied")
        return tmp_path / "untied"

    return make


@pytest.fixture
def trained(write_rows, write_recipe, tmp_path, monkeypatch):
    """Trains an adapter in this process; returns its folder and the logits of the trainer's model at the end."""

    def make(kind, base, name="run", **keys):
        from apo_soup.config.load import load
        from apo_soup.training import run
        from apo_soup.training.entry import training_stage

        rows = write_rows(f"{kind}.jsonl", PAIRS[:12] if kind == "apo" else ROWS)
        file = TRAINING | {"lora_r": 4, "lora_dropout": 0.0, "use_peft": True, "max_steps": 3, "save_strategy": "no"}
        file |= {"model_name_or_path": str(base), "output_dir": str(tmp_path / name / kind)}
        file |= {"dataset_mixture": {"datasets": [{"id": str(rows)}], "seed": 0}}
        file |= {"loss_type": "apo_zero"} if kind == "apo" else {"assistant_only_loss": True, "packing": True}
        path = write_recipe(f"{name}.yaml", {k: v for k, v in (file | keys).items() if v is not None})
        ends = []

        def kept(trainer, *rest):
            with torch.no_grad():
                ends.append(trainer.trained_model.eval()(input_ids=IDS, use_cache=False).logits)
            return save(trainer, *rest)

        save = run.save_model
        with monkeypatch.context() as patch:
            patch.setattr(run, "save_model", kept)
            if kind == "apo":
                train_members(path)
            else:
                from sft.train import train_model

                recipe = load(path, "sft")
                train_model(recipe, training_stage(recipe))
        return tmp_path / name / kind / ("1" if kind == "apo" else ""), ends[-1]

    return make
