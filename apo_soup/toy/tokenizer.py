"""The small world's tokenizer: byte-level BPE, one token a digit, ChatML and think tags as special tokens.

    python -m apo_soup.toy.tokenizer FOLDER

The shipped one was made before the first base checkpoint and stays as it is: other wording gives other merges.
"""

import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from apo_soup.config.command_line import OneSentenceParser
from apo_soup.errors import run_main, told_by_disk
from apo_soup.runs.chat_template import template_text
from apo_soup.toy import lookup, problems, prose, talk
from apo_soup.toy.words import KEYS, TOY_ADJECTIVES, TOY_ANIMALS, TOY_PLACES, TOY_VERBS, VALUES

PAD, END = "<|endoftext|>", "<|im_end|>"
SPECIAL = [PAD, "<|im_start|>", END, "<think>", "</think>", "<tool_call>", "</tool_call>"]
SPECIAL += ["<tool_response>", "</tool_response>", "<code>", "</code>"]
VOCABULARY = 1024


def training_text(rng: random.Random, template: str) -> list[str]:
    """Text whose words should become single tokens, in the proportions that make BPE merge them."""
    lines = [f" {w}" for w in KEYS + VALUES + TOY_ADJECTIVES + TOY_ANIMALS + TOY_VERBS + TOY_PLACES] * 60
    lines += ["".join(text for text, _ in prose.notes_document(rng, 200)) for _ in range(200)]
    for _ in range(400):
        exchange = talk.random_talk(rng)
        lines += [exchange.user, exchange.kind, exchange.curt, lookup.filler_sentence(rng)]
        problem = problems.random_problem(rng, rng.choice(problems.PROBLEM_FAMILIES), "train")
        lines += [problem.question, problem.trace]
    lines += [
        "system\n## Metadata\n\nReasoning Mode: /think",
        "Reasoning Mode: /no_think",
        "user\n",
        "assistant\n",
    ] * 300
    lines += [
        "## XML Tools\n\nTo call a function, write its name and arguments as JSON inside tool_call tags.\n<tools>"
    ] * 100
    lines += ['{"name": "add", "arguments": {"a": 47, "b": 38}}', '{"a": "integer", "b": "integer"}'] * 100
    lines += ["## Custom Instructions\n\n", template] * 5
    return lines


def trained_tokenizer(template: str, seed: int = 0) -> PreTrainedTokenizerFast:
    """Train the tokenizer; `template` is the chat template it carries."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(training_text(random.Random(seed), template), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=SPECIAL[1:2],
        model_max_length=2048,
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )


def _main() -> None:
    parser = OneSentenceParser(
        prog="python -m apo_soup.toy.tokenizer", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where it is written, such as recipes/tiny/base")
    folder = parser.parse_args().folder
    with told_by_disk("tokenizer", folder):
        folder.mkdir(parents=True, exist_ok=True)
        trained_tokenizer(template_text("apo-soup", "chat_template")).save_pretrained(folder)


if __name__ == "__main__":
    run_main(_main)
