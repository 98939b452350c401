"""Prompts in token ids, at the older route `/completions`: servers go on with them, and score what they say.

A chat has a text of its server's own making around it. Where the very tokens count, which is so where the probability
of a given answer is read, they are sent: `echo` has the server repeat them, `logprobs` with their log-probabilities.
"""

import asyncio
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import openai

from apo_soup.errors import UserError
from apo_soup.models.completion import Completion
from apo_soup.models.endpoint.client import EndpointClient, PassingFailure, PromptRefused, Route
from apo_soup.models.endpoint.reply import ENDED_BY_ITSELF, reply_tokens

# Statuses of a server that has no such route, as one of chats alone.
NO_ROUTE = (404, 405, 501)
# How servers name tokens that they are asked to name by id.
TOKEN_ID = re.compile(r"token_id:(\d+)")
# What tokens are asked for that are scored: one more than none, which some servers refuse.
FEWEST_TOKENS = 1


@dataclass(frozen=True)
class TokenPrompt:
    """Ids that a server goes on with, up to one of `stop`."""

    ids: list[int]
    seed: int
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoredTokens:
    """A server's log-probabilities of a text's tokens but the first, in nats `[S - 1]`; whether each was the likeliest
    at its place `[S - 1]`; and all tokens as the server writes them `[S]`.
    """

    logprobs: list[float]
    likeliest: list[bool]
    written: list[str]


class TokenClient(EndpointClient):
    """Prompts in token ids for one server, by the rules of `EndpointClient`."""

    def score(self, texts: Sequence[list[int]]) -> list[ScoredTokens]:
        """The scores of texts of two ids or more, in their order.

        Raises:
            UserError: the server cannot give them, or as `EndpointClient.ask` does.
        """
        found: dict[int, ScoredTokens] = {}

        async def answer(client: openai.AsyncOpenAI, asked: tuple[int, list[int]]) -> None:
            number, ids = asked
            arguments = self._prompt_fields(ids) | {"max_tokens": FEWEST_TOKENS, "temperature": 0.0}
            try:
                reply = await self.reply(client, TOKENS, arguments | {"echo": True, "logprobs": 1})
                found[number] = scored_tokens(reply, len(ids))
            except (PromptRefused, ScoresMissing) as lack:
                raise self._unable(str(lack)) from lack

        asyncio.run(self.each(enumerate(texts), answer))
        return [found[number] for number in range(len(texts))]

    def complete(self, prompts: Sequence[TokenPrompt]) -> list[Completion]:
        """A completion of each prompt, in their order; one that the server refuses is empty, with its words as the
        problem.

        Raises:
            UserError: as `EndpointClient.ask` does.
        """
        found: dict[int, Completion] = {}

        async def answer(client: openai.AsyncOpenAI, asked: tuple[int, TokenPrompt]) -> None:
            number, prompt = asked
            sampling = self.sampling
            further = {name: value for name in ("top_k", "min_p") if (value := getattr(sampling, name))}
            arguments = self._prompt_fields(prompt.ids, further) | {
                "max_tokens": sampling.max_new_tokens,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "seed": prompt.seed,
                **({"stop": list(prompt.stop)} if prompt.stop else {}),
            }
            try:
                reply = await self.reply(client, TOKENS, arguments)
                found[number] = self.without_secrets(text_completion(reply))
            except PromptRefused as refusal:
                found[number] = Completion("", None, False, f"refused by the server: {refusal}")

        asyncio.run(self.each(enumerate(prompts), answer))
        return [found[number] for number in range(len(prompts))]

    def window(self) -> int | None:
        """The most tokens of prompt and answer together, where the server's list of models says it, as vLLM's does."""

        async def models() -> list[Any]:
            async with self.connection() as client:
                try:
                    return list((await client.models.list()).data)
                except (openai.APIError, TimeoutError, ValueError):
                    return []  # many servers have no such list; who needs the window then asks elsewhere

        told = [getattr(m, "max_model_len", None) for m in asyncio.run(models()) if m.id == self.keys.model]
        return next((n for n in told if isinstance(n, int) and not isinstance(n, bool) and n > 0), None)

    def failure(self, error: Exception) -> PassingFailure | PromptRefused | UserError:
        """As `EndpointClient.failure`; a server without the route refuses every prompt."""
        status = getattr(error, "status_code", None)
        if status in NO_ROUTE:
            return PromptRefused(f"status {status} ({self.reason(error)})")
        return super().failure(error)

    def _prompt_fields(self, ids: list[int], further: dict[str, Any] | None = None) -> dict[str, Any]:
        """What every request has."""
        extra = {**(further or {}), **(self.keys.extra_body or {})}
        return {"model": self.keys.model, "prompt": ids, "extra_body": extra}

    def _unable(self, got: str) -> UserError:
        """A sentence about a server that does not score prompts."""
        return UserError(
            f"{self.where}.base_url: expected a server that gives the log-probabilities of a prompt's tokens "
            f"(completions with echo and logprobs), got {got}; serve the model with one that does, such as vLLM, or "
            "leave out the tasks whose answers are given and scored"
        )


class ScoresMissing(Exception):
    """A reply without the scores that were asked for; the message says what there is in their place."""


def text_fault(reply: Any) -> str | None:
    """Why a reply is no completion with text; or None where it is one."""
    choices = getattr(reply, "choices", None)
    text = getattr(choices[0], "text", None) if isinstance(choices, list) and choices else None
    return None if isinstance(text, str) else "an answer without choices or text"


TOKENS = Route(lambda client: client.completions.create, text_fault)


def text_completion(reply: Any) -> Completion:
    """The completion of a reply without fault."""
    choice = reply.choices[0]
    text = choice.text.encode("utf-8", "replace").decode()  # half of a character can be written to no file
    return Completion(text, reply_tokens(reply, "completion_tokens"), choice.finish_reason in ENDED_BY_ITSELF)


def scored_tokens(reply: Any, count: int) -> ScoredTokens:
    """The scores of a prompt of `count` tokens.

    Raises:
        ScoresMissing: those of some are not there, or there are others.
    """
    found = reply.choices[0].logprobs
    if found is None or not found.token_logprobs:
        raise ScoresMissing("none")
    values, tops, written = found.token_logprobs, found.top_logprobs, found.tokens
    asked = reply_tokens(reply, "prompt_tokens")
    if asked not in (None, count):
        raise ScoresMissing(f"those of a prompt of {asked} tokens for one of {count}")
    if len(values) not in (count, count + FEWEST_TOKENS):
        raise ScoresMissing(f"those of {len(values)} tokens for a prompt of {count} and {FEWEST_TOKENS} behind it")
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in values[1:count]):
        raise ScoresMissing("none for some of the prompt's tokens")
    if not tops or not written or len(tops) < count or len(written) < count or not all(tops[1:count]):
        raise ScoresMissing("none of the likeliest token beside the prompt's")
    pairs = list(zip(values[1:count], tops[1:count], strict=True))
    return ScoredTokens([v for v, _ in pairs], [v >= max(top.values()) for v, top in pairs], list(written[:count]))


def same_tokens(written: Sequence[str], ids: Sequence[int], text: str) -> bool:
    """Whether tokens as a server writes them are these ids, of this text in ASCII: by their numbers, else by the text
    that they make; some servers write them as vocabularies do.

    >>> same_tokens(["token_id:5", "token_id:7"], [5, 7], "a b"), same_tokens(["▁a", "▁b"], [5, 7], "a b")
    (True, True)
    >>> same_tokens(["a", "c"], [5, 7], "a b")
    False
    """
    numbers = [TOKEN_ID.fullmatch(token) for token in written]
    if all(numbers):
        return [int(n[1]) for n in numbers if n] == list(ids)
    return re.sub("[Ġ▁]", " ", "".join(written)).strip() == text.strip()
