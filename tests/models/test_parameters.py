"""How many numbers a model has, without them."""

from transformers import AutoConfig, AutoModelForCausalLM, ViTConfig

from apo_soup.models.parameters import built_parameters


def test_it_is_that_of_the_model_and_nothing_of_what_writes_no_text(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert built_parameters(AutoConfig.from_pretrained(tiny_model)) == sum(p.numel() for p in model.parameters())
    assert built_parameters(ViTConfig()) is None
