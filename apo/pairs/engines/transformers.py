"""Batches of a model in this process, run by transformers."""

import gc
from collections.abc import Collection

import torch

from apo.pairs.engines.engine import KeepAnswers
from apo.pairs.engines.rendering import rendered_prompts, side_template
from apo.pairs.journal import Answer
from apo.pairs.prompts import Prompt
from apo.pairs.side import AskedSide
from apo_soup.config.sides import TransformersSide
from apo_soup.data.rendering.loaded_model import load_model
from apo_soup.models.completion import with_think_opening
from apo_soup.models.generation import generate_batch


class TransformersEngine:
    """A model on a GPU where there is one, else on the CPU.

    Batches are made of all prompts, sorted by length, and each has a seed of its own: a run that was killed and goes
    on draws the same tokens as one that was not.

    Raises:
        UserError: the model or its tokenizer cannot be used.
    """

    def __init__(self, side: AskedSide, keys: TransformersSide):
        self.side = side
        self.asked = load_model(
            keys.model,
            f"{side.where}.model",
            side_template(keys, side.where),
            keys.dtype,
            keys.revision,
            keys.trust_remote_code,
        )

    def answer(self, prompts: list[Prompt], done: Collection[str], keep: KeepAnswers) -> None:
        """See `Engine.answer`; a batch with one prompt that is not in `done` is answered as a whole.

        Raises:
            UserError: the chat template is not valid Jinja.
        """
        texts, refused = rendered_prompts(self.asked.renderer, prompts)
        if refused:
            keep(refused)
        by_length = sorted((p.id for p in prompts if p.id in texts), key=lambda prompt_id: len(texts[prompt_id]))
        size = max(1, self.side.batch_size // self.side.candidates)
        for start in range(0, len(by_length), size):
            ids = by_length[start : start + size]
            if any(prompt_id not in done for prompt_id in ids):
                torch.manual_seed(self.side.request_seed(start))
                keep(self._batch_answers(ids, [texts[prompt_id] for prompt_id in ids]))

    def close(self) -> None:
        """See `Engine.close`."""
        del self.asked
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _batch_answers(self, ids: list[str], texts: list[str]) -> list[Answer]:
        """All candidates of some prompts, drawn together."""
        asked, count = self.asked, self.side.candidates
        repeated = [text for text in texts for _ in range(count)]
        completions = [
            with_think_opening(completion, text)
            for completion, text in zip(
                generate_batch(asked.model, asked.tokenizer, repeated, self.side.sampling, asked.ends),
                repeated,
                strict=True,
            )
        ]
        lengths = [len(tokens) for tokens in asked.tokenizer(texts, add_special_tokens=False).input_ids]
        return [Answer(i, completions[n * count : (n + 1) * count], lengths[n]) for n, i in enumerate(ids)]
