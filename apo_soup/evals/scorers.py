"""What gives the probabilities of given texts: the model in this process, or a server that has it loaded already."""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from transformers import PreTrainedModel

from apo_soup.errors import UserError
from apo_soup.evals.served_tokens import BEHIND_TEXT, ServedTokens
from apo_soup.models.completion import Sampling
from apo_soup.models.half_threads import on_half_threads
from apo_soup.models.logprobs import CompletionScore, ScoredItem, shared_logprobs
from apo_soup.models.positions import forget_longest_text, rope_by_length

# Positions whose log-probabilities are computed at once: float32, vocabulary x 4 bytes each.
LOGITS_AT_ONCE = 1024


class TextScorer(Protocol):
    """Reads probabilities of texts in token ids."""

    def completions(
        self, groups: list[list[ScoredItem]], progress: Callable[[int], None]
    ) -> list[list[CompletionScore]]:
        """The scores of completions, in groups whose prompts begin alike; `progress` is told how many groups are done.

        Raises:
            UserError: a server cannot give them.
        """

    def losses(self, texts: list[list[int]], abreast: bool = False) -> Iterator[torch.Tensor]:
        """Negative log-likelihood in nats of every token of each text `[S]` but the first: `[S - 1]`, on the CPU.

        Args:
            abreast: texts may be computed beside each other.

        Raises:
            UserError: a server cannot give them.
        """


class ModelScorer:
    """The model in this process, in evaluation mode; `tokens_per_batch` padded positions are computed together."""

    def __init__(self, model: PreTrainedModel, tokens_per_batch: int):
        self.model, self.tokens_per_batch = model, tokens_per_batch

    def completions(
        self, groups: list[list[ScoredItem]], progress: Callable[[int], None]
    ) -> list[list[CompletionScore]]:
        """See `TextScorer.completions`."""
        return shared_logprobs(self.model, groups, self.tokens_per_batch, progress)

    def losses(self, texts: list[list[int]], abreast: bool = False) -> Iterator[torch.Tensor]:
        """See `TextScorer.losses`, tensors `[S - 1]`."""
        if not abreast:
            return map(self._losses, texts)
        by_length = rope_by_length(self.model.config.get_text_config())
        return iter(on_half_threads(self._losses, texts, self.model.device, together=not by_length))

    @torch.inference_mode()
    def _losses(self, ids: list[int]) -> torch.Tensor:
        """Those of one text `[S]`: `[S - 1]`."""
        if rope_by_length(self.model.config.get_text_config()):
            forget_longest_text(self.model)
        batch = torch.tensor([ids], device=self.model.device)
        logits: torch.Tensor = self.model(input_ids=batch, use_cache=False).logits[0, :-1]
        pieces = [
            -part.float().log_softmax(-1).gather(1, target[:, None])[:, 0]
            for part, target in zip(
                torch.split(logits, LOGITS_AT_ONCE), torch.split(batch[0, 1:], LOGITS_AT_ONCE), strict=True
            )
        ]
        return torch.cat(pieces).cpu() if pieces else torch.zeros(0)


class ServedScorer:
    """A server that repeats the tokens of a prompt with their log-probabilities."""

    def __init__(self, tokens: ServedTokens):
        self.tokens = tokens

    def completions(
        self, groups: list[list[ScoredItem]], progress: Callable[[int], None]
    ) -> list[list[CompletionScore]]:
        """See `TextScorer.completions`.

        Raises:
            UserError: the server cannot give them, or its window has no room for a text.
        """
        self._require_room([prompt + completion for group in groups for prompt, completion in group])
        client, found = self.tokens.client(Sampling(1)), []
        scores = iter(client.score([prompt + completion for group in groups for prompt, completion in group]))
        for number, group in enumerate(groups, 1):
            own = [(len(prompt) - 1, len(completion), next(scores)) for prompt, completion in group]
            found.append([CompletionScore(sum(s.logprobs[n:]), count, all(s.likeliest[n:])) for n, count, s in own])
            progress(number)
        return found

    def losses(self, texts: list[list[int]], abreast: bool = False) -> Iterator[torch.Tensor]:
        """See `TextScorer.losses`, tensors `[S - 1]`.

        Raises:
            UserError: the server cannot give them, or its window has no room for a text.
        """
        self._require_room(texts)
        scores = iter(self.tokens.client(Sampling(1)).score([ids for ids in texts if len(ids) > 1]))
        for ids in texts:
            yield -torch.tensor(next(scores).logprobs) if len(ids) > 1 else torch.zeros(0)

    def _require_room(self, texts: list[list[int]]) -> None:
        longest, window = max(map(len, texts), default=0), self.tokens.window
        if window is not None and longest + BEHIND_TEXT > window:
            raise UserError(
                f"{self.tokens.where}: expected texts of at most {window - BEHIND_TEXT:,} tokens, for which the "
                f"server's window of {window:,} has room, got one of {longest:,}; leave the longer items out, or serve "
                "the model with a larger window"
            )
