"""LoRA adapters in a soup."""

import json
import shutil

import pytest
import torch
from helpers import state_dict
from merge_helpers import set_config

from apo_soup.errors import UserError


def test_adapters_on_a_common_base_make_a_soup(run, merge_run, tiny_model):
    """The average of merged adapters, as peft merges them."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    merged = []
    # Two runs whose adapters end in the same two names.
    folders = [run / f"run{number}" / "apo" / "1" for number in (1, 2)]
    for number, folder in enumerate(folders):
        torch.manual_seed(number)
        base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        base.config.name_or_path = base.name_or_path = str(tiny_model)
        model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
        model.save_pretrained(folder)
        plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        merged.append(PeftModel.from_pretrained(plain, folder).merge_and_unload().state_dict())
    soup = {"members": [str(f) for f in folders], "dtype": "float32"}
    # What a killed merge left must not be taken for the adapters of today.
    shutil.copytree(tiny_model, run / ".soup.adapters" / "apo" / "1")
    merge_run(soup=soup)
    average = {name: (merged[0][name] + merged[1][name]) / 2 for name in merged[0]}
    for name, tensor in state_dict(run / "soup").items():
        torch.testing.assert_close(tensor, average[name], atol=1e-6, rtol=1e-6)
    assert not (run / ".soup.adapters").exists()

    from apo_soup.evals.mix import Mixer
    from apo_soup.evals.models_to_evaluate import Mix

    mixed = Mixer("here").mixed_model(Mix("half", tuple((f, 0.5) for f in folders)))
    for name, parameter in mixed.named_parameters():
        torch.testing.assert_close(parameter, average[name], atol=1e-6, rtol=1e-6)
    set_config(run / "mid", rms_norm_eps=1e-3)
    with pytest.raises(
        UserError, match=r"--mix: .*mid/config\.json: rms_norm_eps: expected 1e-06, as in .*, got 0\.001"
    ):
        Mixer("here").mixed_model(Mix("half", ((run / "apo" / "1", 0.5), (run / "mid", 0.5))))
    settings = folders[1] / "adapter_config.json"
    settings.write_text(settings.read_text().replace(str(tiny_model), "somebody/else"))
    with pytest.raises(UserError, match="expected adapters of one base, got bases"):
        merge_run(soup=soup)


def test_adapters_that_fill_the_disk_are_told_before_one_is_written(run, merge_run, tiny_model, monkeypatch):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    base.config.name_or_path = base.name_or_path = str(tiny_model)
    get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained(run / "adapter")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 0, 10))
    with pytest.raises(UserError, match=r"B free for the merge, got (1\.0 kB|10 B); free some"):
        merge_run(soup={"members": [str(run / "adapter")], "dtype": "float32"})
    assert not list(run.glob(".soup*"))


def test_an_adapter_of_another_depth_or_width_is_refused_by_its_header(tmp_path):
    """peft would leave out the layers that the base has not, and make anew those that the adapter has not."""
    from safetensors.torch import save_file

    from merge.adapter_checks import check_adapter

    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for folder in (base, adapter):
        folder.mkdir()
    module = "model.layers.{}.mlp.up_proj"
    save_file({f"{module.format(n)}.weight": torch.zeros(6, 4) for n in range(3)}, base / "model.safetensors")

    def write(layers, width=4, **settings):
        factors = {f"base_model.model.{module.format(n)}.lora_A.weight": torch.zeros(2, width) for n in layers}
        save_file(factors, adapter / "adapter_model.safetensors")
        (adapter / "adapter_config.json").write_text(json.dumps({"target_modules": ["up_proj"], **settings}))

    write(range(3))
    check_adapter(base, adapter, "here")
    write([1], layers_to_transform=[1])
    check_adapter(base, adapter, "here")
    write(range(3), peft_type="PREFIX_TUNING")
    with pytest.raises(UserError, match=r"peft_type: expected an adapter of weights, such as LORA, got PREFIX_TUNING"):
        check_adapter(base, adapter, "here")
    write(range(5))
    with pytest.raises(UserError, match=r"layers\.4\.mlp.*: expected a layer of the base .*, which has 3, got layer 4"):
        check_adapter(base, adapter, "here")
    write(range(2))
    with pytest.raises(UserError, match=r"adapter_model\.safetensors: expected tensors for all 3 layers .*, got 2"):
        check_adapter(base, adapter, "here")
    write(range(3), width=5)
    with pytest.raises(UserError, match=r"lora_A\.weight: expected a width of .*up_proj in the base .*, 6 or 4, got 5"):
        check_adapter(base, adapter, "here")


CODE = {
    "configuration_its.py": "from transformers import LlamaConfig\n\n\nclass ItsConfig(LlamaConfig):\n"
    "    model_type = 'its'\n",
    "modeling_its.py": "from transformers import LlamaForCausalLM\n\nfrom .configuration_its import ItsConfig\n\n\n"
    "class ItsModel(LlamaForCausalLM):\n    config_class = ItsConfig\n",
}


def test_an_adapter_on_a_base_with_its_own_code_says_what_to_do(run, merge_run, tokenizer):
    """Its code runs where the file says so, and lies beside the soup; else the sentence names both ways out."""
    from apo_helpers import tiny_model_of
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    base = run / "its"
    tiny_model_of("llama", len(tokenizer)).save_pretrained(base)
    tokenizer.save_pretrained(base)
    for name, text in CODE.items():
        (base / name).write_text(text)
    references = {"AutoConfig": "configuration_its.ItsConfig", "AutoModelForCausalLM": "modeling_its.ItsModel"}
    set_config(base, model_type="its", architectures=["ItsModel"], auto_map=references)
    folders = [run / "one", run / "two"]
    whole = []
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(base, trust_remote_code=True)
        model.config.name_or_path = model.name_or_path = str(base)
        get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)).save_pretrained(
            folder
        )
        plain = AutoModelForCausalLM.from_pretrained(base, trust_remote_code=True)
        whole.append(PeftModel.from_pretrained(plain, folder).merge_and_unload().state_dict())
    soup = {"members": [str(f) for f in folders], "dtype": "float32"}
    told = r"which comes with code of its own, and an adapter is merged by running it; name the whole model .* or read"
    with pytest.raises(UserError, match=told):
        merge_run(soup=soup)
    models = [{"model": name, "parameters": {"weight": weight}} for name, weight in (("soup", 0.9), (str(base), 0.1))]
    mix = {"merge_method": "linear", "dtype": "float32", "models": models}
    merge_run(soup=soup, merge=mix, options={"trust_remote_code": True})
    found = state_dict(run / "soup")
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, (whole[0][name] + whole[1][name]) / 2, atol=1e-6, rtol=1e-6)
    assert {f.name for f in (run / "merged").glob("*.py")} == set(CODE)


def test_an_adapter_trained_with_tokens_of_its_own_is_merged_with_them(run, merge_run, tiny_model):
    """Its embeddings have eight rows more than the base's, and stand whole in the adapter."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = run / "own" / "apo" / "1"

    def base():
        model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        model.config.name_or_path = model.name_or_path = str(tiny_model)
        model.resize_token_embeddings(model.config.vocab_size + 8, mean_resizing=False)
        return model

    torch.manual_seed(0)
    settings = LoraConfig(
        r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    model = get_peft_model(base(), settings)
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(0.1)
    model.save_pretrained(folder)
    alone = [{"model": "soup", "parameters": {"weight": 1.0}}]
    merge = {"merge_method": "linear", "dtype": "float32", "models": alone}
    merge_run(soup={"members": [str(folder)], "dtype": "float32"}, merge=merge)
    expected = PeftModel.from_pretrained(base(), folder).merge_and_unload().state_dict()
    made = state_dict(run / "soup")
    assert made["model.embed_tokens.weight"].shape == (model.config.vocab_size, 32)
    for name, tensor in made.items():
        torch.testing.assert_close(tensor, expected[name])
