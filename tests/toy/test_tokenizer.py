"""The small world's tokenizer and its shipped base model."""

from helpers import ROOT

from apo_soup.toy.words import KEYS, TOY_ADJECTIVES, TOY_ANIMALS, TOY_PLACES, TOY_VERBS, VALUES


def test_words_are_single_tokens_and_digits_stand_alone(tokenizer):
    for word in KEYS + VALUES + TOY_ADJECTIVES + TOY_ANIMALS + TOY_VERBS + TOY_PLACES:
        assert len(tokenizer(f" {word}").input_ids) == 1, word
    assert tokenizer.tokenize("123") == ["1", "2", "3"]
    assert len(set(KEYS)) == len(KEYS)
    assert len(set(VALUES)) == len(VALUES)


def test_the_shipped_base_is_small_whole_and_smollm3():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = ROOT / "recipes" / "tiny" / "base"
    assert sum(f.stat().st_size for f in folder.iterdir()) < 4 * 2**20
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.model_type == "smollm3"
    assert model.config.no_rope_layers == [1, 1, 1, 0]
    assert model.config.num_key_value_heads < model.config.num_attention_heads
    assert model.config.tie_word_embeddings
    assert model.dtype.is_floating_point
    assert (
        AutoTokenizer.from_pretrained(folder).chat_template
        == (ROOT / "apo_soup/templates/chat_template.jinja").read_text()
    )
