"""A model for the harness's English."""

import pytest
from helpers import TINY_SHAPE


@pytest.fixture(scope="session")
def english_model(tmp_path_factory):
    """A random SmolLM3 with a tokenizer that writes RULER's English in few tokens, and room for 2 048 of them."""
    import torch
    import wonderwords
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, SmolLM3Config, SmolLM3ForCausalLM

    from apo_soup.runs.chat_template import template_text
    from apo_soup.toy.tokenizer import SPECIAL

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8000,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    lines = (
        "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n",
        "Memorize and track the chain(s) of variable assignment hidden in the following text. VAR = ",
        "Question: Find all variables that are assigned the value in the text above. Answer: According to the",
        "One of the special magic numbers for is: What are all the special magic uuids mentioned in the text?",
        "VAR ABC = 12345 VAR XYZ = VAR ABC",
    )
    words = [word for kind in wonderwords.RandomWord()._categories.values() for word in kind]
    core.train_from_iterator([*lines * 50, *(f" {word}" for word in words)], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        chat_template=template_text("apo-soup", "x"),
        clean_up_tokenization_spaces=False,
    )
    torch.manual_seed(0)
    config = SmolLM3Config(
        **TINY_SHAPE,
        vocab_size=len(tokenizer),
        max_position_embeddings=2048,
        pad_token_id=0,
        eos_token_id=2,
        bos_token_id=None,
    )
    folder = tmp_path_factory.mktemp("english")
    SmolLM3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
