"""A reward model: a sequence classifier of transformers whose one logit is the score of a conversation."""

import gc
import math
from collections.abc import Collection
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from apo.pairs.engines.engine import KeepAnswers
from apo.pairs.engines.rendering import side_tokenizer
from apo.pairs.journal import Answer
from apo.pairs.prompts import Prompt
from apo.pairs.side import AskedSide
from apo_soup.config.judges import RewardJudge
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.rows import RowError
from apo_soup.errors import UserError
from apo_soup.models.completion import Completion
from apo_soup.models.loading import load_causal_model


class RewardEngine:
    """Scores of conversations, each as a completion whose text is the number.

    Raises:
        UserError: the model has more than one logit, or code that may not run; its tokenizer has no template.
    """

    def __init__(self, side: AskedSide, keys: RewardJudge):
        self.side = side
        where = f"{side.where}.model"
        self.tokenizer = side_tokenizer(keys, side.where)
        self.model: Any = load_causal_model(
            keys.model, where, keys.dtype, keys.trust_remote_code, keys.revision, AutoModelForSequenceClassification
        ).eval()
        if self.model.config.num_labels != 1:
            raise UserError(
                f"{where}: expected a reward model, a sequence classifier with one logit, got "
                f"{self.model.config.num_labels}; name another model"
            )
        if self.model.config.get_text_config().pad_token_id is None:
            self.model.config.get_text_config().pad_token_id = self.tokenizer.pad_token_id
        if torch.cuda.is_available():
            self.model.to("cuda")

    @torch.inference_mode()
    def answer(self, prompts: list[Prompt], done: Collection[str], keep: KeepAnswers) -> None:
        """See `Engine.answer`.

        Raises:
            UserError: the chat template is not valid Jinja.
        """
        renderer = Renderer(self.tokenizer)
        texts: dict[str, str] = {}
        for prompt in prompts:
            if prompt.id in done:
                continue
            try:
                texts[prompt.id] = renderer.render(prompt.messages, prompt.kwargs)[0]
            except RowError as error:
                keep([Answer(prompt.id, [], problem=str(error))])
        order = sorted(texts, key=lambda name: len(texts[name]))
        for start in range(0, len(order), self.side.batch_size):
            names = order[start : start + self.side.batch_size]
            inputs = self.tokenizer(
                [texts[name] for name in names],
                return_tensors="pt",
                padding=True,
                padding_side="right",
                add_special_tokens=False,
                return_token_type_ids=False,
            ).to(self.model.device)
            scores = self.model(**inputs).logits[:, 0].float().tolist()
            keep([self._answer(name, score) for name, score in zip(names, scores, strict=True)])

    def close(self) -> None:
        """See `Engine.close`."""
        del self.model
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _answer(self, name: str, score: float) -> Answer:
        if not math.isfinite(score):
            return Answer(name, [], problem=f"a score of {score}")
        return Answer(name, [Completion(repr(score), 0, True)])
