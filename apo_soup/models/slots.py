"""Generation in slots: an answer that ends leaves its row at once, and waiting prompts take the free ones.

A batch that waits for its longest answer computes most of its rows for nothing: of 250 answers of the embedded model
half have ended after a third of the steps. Prompts that are asked several times are read once.
"""

import random
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass

import torch
from torch.nn.functional import pad
from transformers import PreTrainedModel

from apo_soup.models.completion import Sampling
from apo_soup.models.drawing import answer_random, next_tokens
from apo_soup.models.growing_cache import GrowingCache, growing_cache
from apo_soup.models.logprobs import common_length

# Free rows, as a part of all, from which the others move together or waiting prompts come in.
FREE_SHARE = 0.125
# Padded positions of prompts that are read in one pass.
PROMPT_TOKENS_AT_ONCE = 8192
# A beginning of fewer tokens is read with each prompt.
LEAST_SHARED = 8


@dataclass
class Answering:
    """One row: the number of its prompt, the ids of its answer until now, and its random numbers."""

    number: int
    ids: list[int]
    draws: random.Random | None


class Slots:
    """Prompts that are answered together, at most `size` at a time.

    Args:
        ends: ids that end an answer; the one that did is the last of its ids.
        done: called with the number of a prompt and the ids of its answer when it has ended.
    """

    def __init__(
        self, model: PreTrainedModel, sampling: Sampling, ends: Set[int], done: Callable[[int, list[int]], None]
    ):
        self.model, self.sampling, self.ends, self.done = model, sampling, ends, done
        self.rows: list[Answering | None] = []
        self.cache = self._empty_cache()
        # What each row attends to `[B, S]`, the position `[B]` of its next token, and that token `[B]`.
        self.mask = torch.zeros(0, 0, dtype=torch.long, device=model.device)
        self.positions = torch.zeros(0, dtype=torch.long, device=model.device)
        self.tokens = torch.zeros(0, dtype=torch.long, device=model.device)
        # What all prompts begin with, read once: a system prompt, tools, examples.
        self.beginning: GrowingCache | None = None
        self.shared = 0

    def answer(
        self, prompts: Sequence[list[int]], size: int, numbers: Sequence[int], halted: Callable[[], bool]
    ) -> None:
        """Answer the prompts of some numbers, the shortest first, unless `halted` says that nobody waits any more."""
        waiting = sorted(numbers, key=lambda n: (len(prompts[n]), prompts[n]), reverse=True)
        self._read_beginning(prompts)
        while (waiting or any(self.rows)) and not halted():
            free = size - sum(row is not None for row in self.rows)
            worth = max(1, FREE_SHARE * len(self.rows))
            if waiting and free >= min(len(waiting), max(1, FREE_SHARE * size)):
                self._drop_ended()
                for chunk in prompt_chunks([waiting.pop() for _ in range(min(free, len(waiting)))], prompts):
                    self._take_in(chunk, prompts)
            elif sum(row is None for row in self.rows) >= worth:
                self._drop_ended()
            else:
                self._step()

    def _empty_cache(self) -> GrowingCache:
        cache = growing_cache(self.model)
        assert cache is not None  # `fits_slots` has looked
        return cache

    def _read_beginning(self, prompts: Sequence[list[int]]) -> None:
        """Read what all prompts begin with, where it is worth a pass of its own."""
        shared = common_length([prompt[:-1] for prompt in prompts])
        if shared < LEAST_SHARED or len(prompts) == 1:
            return
        self.shared, self.beginning = shared, self._empty_cache()
        ids = torch.tensor([prompts[0][:shared]], device=self.model.device)
        with self.beginning.reading():
            self.model(input_ids=ids, past_key_values=self.beginning, use_cache=True)

    def _take_in(self, numbers: list[int], prompts: Sequence[list[int]]) -> None:
        """Read prompts, each that is there several times once, and give them rows behind those that are there."""
        own = {n: tuple(prompts[n][self.shared :]) for n in numbers}
        distinct = list(dict.fromkeys(own.values()))
        device = self.model.device
        longest = max(map(len, distinct))
        ids = torch.zeros(len(distinct), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(distinct):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        place = {prompt: row for row, prompt in enumerate(distinct)}
        rows = torch.tensor([place[own[n]] for n in numbers], device=device)
        mask = pad(mask, (self.shared, 0), value=1).to(device)
        cache = self.beginning.repeated(len(distinct)) if self.beginning is not None else self._empty_cache()
        logits = self.model(
            input_ids=ids.to(device),
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, self.shared :],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        if len(distinct) < len(numbers):
            cache.keep_rows(rows, 0)
            logits, mask = logits.index_select(0, rows), mask.index_select(0, rows)
        taken = [
            Answering(n, [], answer_random(self.sampling.seed, n) if self.sampling.temperature else None)
            for n in numbers
        ]
        if self.rows:
            self.cache.join(cache)
            length = max(self.mask.shape[1], mask.shape[1])
            self.mask = torch.cat([pad(m, (length - m.shape[1], 0)) for m in (self.mask, mask)])
        else:
            self.cache, self.mask = cache, mask
        self.positions = torch.cat([self.positions, mask.sum(-1)])
        self.rows += taken
        self.tokens = torch.cat([self.tokens, self._chosen(taken, logits)])

    def _step(self) -> None:
        """One more token for every row."""
        self.mask = pad(self.mask, (0, 1), value=1)
        logits = self.model(
            input_ids=self.tokens[:, None],
            attention_mask=self.mask,
            position_ids=self.positions[:, None],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        self.tokens = self._chosen(self.rows, logits)
        # An ended row stays where it is: behind its last place a model with learned positions has none.
        self.positions = self.positions + torch.tensor([row is not None for row in self.rows]).to(self.positions)

    def _chosen(self, rows: list[Answering | None] | list[Answering], logits: torch.Tensor) -> torch.Tensor:
        """The next tokens `[B]` of rows with logits `[B, V]`; rows whose answer they end are handed over."""
        drawn = [row.draws.random() if row and row.draws else 0.0 for row in rows]
        chosen = next_tokens(logits, self.sampling, drawn if self.sampling.temperature else None)
        first = len(self.rows) - len(rows)
        for place, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True), first):
            if row is None:
                continue
            row.ids.append(token)
            if token in self.ends or len(row.ids) == self.sampling.max_new_tokens:
                self.rows[place] = None
                self.done(row.number, row.ids)
        return chosen

    def _drop_ended(self) -> None:
        """Take out the rows whose answers have ended, and the positions that no other row attends to."""
        kept = [place for place, row in enumerate(self.rows) if row is not None]
        if len(kept) == len(self.rows):
            return
        self.rows = [self.rows[place] for place in kept]
        rows = torch.tensor(kept, dtype=torch.long, device=self.model.device)
        self.mask = self.mask.index_select(0, rows)
        self.positions, self.tokens = self.positions.index_select(0, rows), self.tokens.index_select(0, rows)
        if kept:
            first = int(self.mask.argmax(-1).min())
            self.mask = self.mask[:, first:]
            self.cache.keep_rows(rows, first)
        else:
            self.mask = self.mask[:, :0]


def prompt_chunks(numbers: list[int], prompts: Sequence[list[int]]) -> list[list[int]]:
    """Numbers of prompts in order, cut into parts of one, or of at most PROMPT_TOKENS_AT_ONCE padded positions."""
    chunks: list[list[int]] = []
    for number in numbers:
        last = chunks[-1] if chunks else []
        if last and (len(last) + 1) * max(len(prompts[n]) for n in (*last, number)) <= PROMPT_TOKENS_AT_ONCE:
            last.append(number)
        else:
            chunks.append([number])
    return chunks


def prompt_parts(prompts: Sequence[list[int]], count: int) -> list[list[int]]:
    """Numbers of prompts in at most `count` parts of like lengths; those that are the same are in one part.

    >>> prompt_parts([[5, 6], [7], [7], [8, 9, 10]], 2)
    [[1, 2, 3], [0]]
    """
    distinct = sorted({tuple(prompt) for prompt in prompts}, key=lambda prompt: (len(prompt), prompt))
    part = {prompt: place % count for place, prompt in enumerate(distinct)}
    parts: list[list[int]] = [[] for _ in range(count)]
    for number, prompt in enumerate(prompts):
        parts[part[tuple(prompt)]].append(number)
    return [numbers for numbers in parts if numbers]
