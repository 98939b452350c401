"""Any OpenAI-compatible endpoint: many requests at once, back-off, rate limits honoured.

The key is read from the environment variable `api_key_env` names (OPENAI_API_KEY unless given) and stands in no file.
A request that fails for a reason that may pass (429, 5xx, no connection, no answer in time) is tried again, after as
long as the server's Retry-After says or, without one, after a wait that doubles. When the tries are used up the run
stops; what was answered until then is kept.
"""

import asyncio
import json
import math
import os
import random
import time
from collections.abc import Collection
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from apo.pairs.engines import Keep, Side
from apo.pairs.journal import Answer
from apo.pairs.prompts import Prompt
from corpus.completion import Completion
from pipeline.errors import UserError, first_line

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
# How long a server may put off all requests at a time, and one request altogether, in seconds.
LONGEST_HOLD, PATIENCE = 600.0, 1800.0
# Client errors that may pass by themselves, and the refusals in a row, with no answer among them, that stop a run.
PASSING, ALL_REFUSED = (408, 409, 425, 429), 20


class EndpointEngine:
    """Chat completions of one server. `concurrency` requests are under way at a time."""

    def __init__(self, side: Side):
        try:
            from openai import AsyncOpenAI
        except ImportError as error:
            raise UserError(
                f"{side.where}: engine openai needs the openai package; pip install 'apo-soup[endpoint]'"
            ) from error
        self.side, self.settings = side, side.settings
        self.variable = self.settings.get("api_key_env", "OPENAI_API_KEY")
        # Servers on one's own machine ask for no key, and the client insists on one.
        key = (os.environ.get(self.variable) or "none").strip()
        if not key.isascii():
            raise UserError(f"{side.where}: the key in {self.variable} holds a character that no key has")
        self.client_of = lambda: AsyncOpenAI(
            base_url=self.settings["base_url"], api_key=key, max_retries=0, timeout=self.settings["timeout"]
        )
        self.pace = Pace(self.settings.get("requests_per_minute"))

    def answer(self, prompts: list[Prompt], done: Collection[str], keep: Keep) -> None:
        asyncio.run(self._answer([p for p in prompts if p.id not in done], keep))

    def close(self) -> None:
        """Nothing is held: the client is closed when its requests are done."""

    async def _answer(self, prompts: list[Prompt], keep: Keep) -> None:
        waiting = iter(prompts)
        refused: list[str] = []

        answered = 0

        async def work(client: Any) -> None:
            nonlocal answered
            for prompt in waiting:
                answer = await self._ask(client, prompt)
                if answer.problem is None:
                    answered += 1
                elif not answered:
                    refused.append(answer.problem)
                    if len(refused) == ALL_REFUSED:
                        raise UserError(
                            f"{self.side.where}: {self._server} refuses every request so far, {ALL_REFUSED} of them: "
                            f"{answer.problem}"
                        )
                keep([answer])

        async with self.client_of() as client:
            workers = [asyncio.create_task(work(client)) for _ in range(self.settings["concurrency"])]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _ask(self, client: Any, prompt: Prompt) -> Answer:
        """All candidates of one prompt; a prompt that the server refuses as such is an answer with a problem."""
        from openai import BadRequestError, UnprocessableEntityError

        completions, asked = [], None
        try:
            for number in range(self.side.candidates):
                reply = await self._request(client, prompt, number)
                completions.append(completion_of(reply))
                asked = reply.usage.prompt_tokens
        except (BadRequestError, UnprocessableEntityError) as error:
            return Answer(prompt.id, [], problem=f"refused by the server: {first_line(error)[:200]}")
        return Answer(prompt.id, completions, asked)

    async def _request(self, client: Any, prompt: Prompt, number: int) -> Any:
        """One chat completion, tried again while the failure may pass.

        Raises:
            UserError: the tries are used up, or the server refuses the key, the model or the address.
        """
        import openai

        sampling, tries = self.side.sampling, self.settings["retries"]
        asked = {
            "model": self.settings["model"],
            "messages": [as_sent(m) for m in prompt.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "seed": self.side.seed(prompt.id, number),
            "extra_body": self._extra_body(prompt),
        }
        attempt, begun = 0, time.monotonic()
        while True:
            await self.pace.turn()
            try:
                # The client's own limit is one of silence; a server that drips would never meet it.
                reply = await asyncio.wait_for(client.chat.completions.create(**asked), self.settings["timeout"])
                check_reply(reply)
                self.pace.went_well()
                return reply
            except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
                raise UserError(
                    f"{self.side.where}: {self._server} refuses the key in {self.variable} ({error.status_code})"
                ) from error
            except openai.NotFoundError as error:
                raise UserError(
                    f"{self.side.where}: {self._server} does not know the model {self.settings['model']} or the "
                    f"address: {first_line(error)[:200]}"
                ) from error
            except (openai.BadRequestError, openai.UnprocessableEntityError):
                raise
            except (openai.APIError, TimeoutError, Unreadable, ValueError) as error:
                status = getattr(error, "status_code", None)
                if status is not None and status < 500 and status not in PASSING:
                    raise UserError(
                        f"{self.side.where}: {self._server} answers with status {status}: {first_line(error)[:200]}"
                    ) from error
                told = retry_after(getattr(error, "response", None))
                # A server that says when to come back has not failed; it is asked as long as it says so within reason.
                attempt += told is None or time.monotonic() - begun > PATIENCE
                if attempt > tries:
                    raise UserError(
                        f"{self.side.where}: {self._server} failed {tries + 1} times in a row on one request "
                        f"({first_line(error)[:200]}); the answers until now are kept, run the same command again to "
                        "go on"
                    ) from error
                await self._wait(told, attempt - 1)

    def _extra_body(self, prompt: Prompt) -> dict[str, Any]:
        """What is beyond OpenAI's own schema: the template's arguments, which hold the mode, and the recipe's own."""
        arguments = {"chat_template_kwargs": prompt.kwargs} if self.settings["send_template_kwargs"] else {}
        sampling = self.side.sampling
        arguments |= {k: v for k, v in (("top_k", sampling.top_k), ("min_p", sampling.min_p)) if v}
        if prompt.kwargs.get("tools"):
            arguments["tools"] = [t if "function" in t else {"type": "function", "function": t}
                                  for t in prompt.kwargs["tools"]]  # fmt: skip
        return {**arguments, **(self.settings.get("extra_body") or {})}

    async def _wait(self, told: float | None, attempt: int) -> None:
        """Wait as the server says; a told limit holds for all requests, not only for the one that met it."""
        if told is not None:
            self.pace.hold(told)
            return
        # Spread out, so that requests which failed together do not come back together.
        await asyncio.sleep(min(LONGEST_WAIT, FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1.0))

    @property
    def _server(self) -> str:
        return f"the server at {self.settings['base_url']}"


class Unreadable(Exception):
    """A reply that is no chat completion, such as a gateway's page or half a body."""


def check_reply(reply: Any) -> None:
    """Raise Unreadable for a reply without a message or a count of its tokens."""
    choices = getattr(reply, "choices", None)
    if not isinstance(choices, list) or not choices or choices[0].message is None or not reply.usage:
        raise Unreadable(f"an answer without choices or without usage: {str(reply)[:80]!r}")


def as_sent(message: dict[str, Any]) -> dict[str, Any]:
    """A turn in OpenAI's schema, which has the arguments of calls as JSON text."""
    if not message.get("tool_calls"):
        return message
    calls = [
        {**c, "function": {**c["function"], "arguments": json.dumps(c["function"]["arguments"], ensure_ascii=False)}}
        for c in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


class Pace:
    """When the next request may start: `per_minute` of them evenly spread, and none while a server asked for quiet.

    Each time the server asks, the requests behind its wait are spread further apart, until they go through; when many
    would start in the same instant, most of them would be sent away again.
    """

    def __init__(self, per_minute: float | None):
        self.given = 60.0 / per_minute if per_minute else 0.0
        self.gap = self.given
        self.next = 0.0

    def hold(self, seconds: float) -> None:
        """No request starts for so long, and those behind it start further apart."""
        seconds = min(seconds, LONGEST_HOLD)
        until = time.monotonic() + seconds
        if until > self.next + self.gap:  # the first of a crowd that is told the same
            self.gap = min(max(0.05, 2 * self.gap), 2.0)
        self.next = max(self.next, until)

    def went_well(self) -> None:
        """A request went through: a little less far apart from here on."""
        self.gap = max(self.given, self.gap * 0.98 if self.gap > 0.02 else 0.0)

    async def turn(self) -> None:
        """Return when a request may start."""
        while True:
            now = time.monotonic()
            if now >= self.next:
                self.next = now + self.gap
                return
            await asyncio.sleep(self.next - now)


def retry_after(response: Any) -> float | None:
    """Seconds that a reply's Retry-After header asks for, as a number or as a date, or None."""
    headers = response.headers if response is not None else {}
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return max(0.0, seconds) if math.isfinite(seconds) else LONGEST_HOLD
    try:
        when = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    # The older forms of the date name no zone and mean UTC.
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - time.time())


def completion_of(reply: Any) -> Completion:
    """A reply as text; reasoning that the server parsed out goes back into its think block."""
    choice = reply.choices[0]
    text = choice.message.content or ""
    extra = choice.message.model_extra or {}
    reasoning = extra.get("reasoning_content") or extra.get("reasoning")
    if reasoning and "</think>" not in text:
        text = f"<think>\n{reasoning.strip()}\n</think>\n\n{text.lstrip()}"
    elif "</think>" in text and "<think>" not in text:
        text = "<think>" + text  # the server's template opened the block in the prompt
    return Completion(text, reply.usage.completion_tokens, choice.finish_reason == "stop")
