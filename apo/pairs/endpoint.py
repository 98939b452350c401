"""Any OpenAI-compatible endpoint: many requests at once, back-off, rate limits honoured.

The key is read from the environment variable `api_key_env` names (OPENAI_API_KEY unless given) and stands in no file.
A request that fails for a reason that may pass (429, 5xx, no connection, no answer in time) is tried again, after a
wait that doubles, or after as long as the server's Retry-After says where that is longer. A limit that is told with its
end (429) uses up no try. When the tries are used up the run stops; what was answered until then is kept.
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
from apo_soup.errors import UserError, first_line
from apo_soup.models.completion import Completion

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
# How long a server may put off all requests at a time, and one request altogether, in seconds.
LONGEST_HOLD, PATIENCE = 600.0, 1800.0
# Words by which servers say that an answer ended by itself.
ENDED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "end")
# What a server may have done to an answer, by its finish_reason.
PARSED = {
    "tool_calls": "tool calls taken out of the answer by the server",
    "function_call": "a function call taken out of the answer by the server",
    "content_filter": "the server's content filter",
}
# Client errors that may pass by themselves, and the refusals in a row, with no answer among them, that stop a run.
PASSING, ALL_REFUSED = (408, 409, 425, 429), 20
# Statuses that refuse one prompt: malformed for this server, or too long for it.
REFUSALS = (400, 413, 422)


class EndpointEngine:
    """Chat completions of one server. `concurrency` requests are under way at a time."""

    def __init__(self, side: Side):
        from openai import AsyncOpenAI

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
        from openai import APIStatusError

        completions, asked, server = [], None, None
        try:
            for number in range(self.side.candidates):
                reply = await self._request(client, prompt, number)
                completions.append(completion_of(reply))
                asked = reply.usage.prompt_tokens
                server = served_by(reply)
        except APIStatusError as error:
            if error.status_code not in REFUSALS:
                raise
            return Answer(prompt.id, [], problem=f"refused by the server: {first_line(error)[:200]}")
        return Answer(prompt.id, completions, asked, server=server)

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
            except (openai.APIError, TimeoutError, Unreadable, ValueError) as error:
                status = getattr(error, "status_code", None)
                if status in REFUSALS:
                    raise
                if status is not None and status < 500 and status not in PASSING:
                    raise UserError(
                        f"{self.side.where}: {self._server} answers with status {status}: {first_line(error)[:200]}"
                    ) from error
                told = retry_after(getattr(error, "response", None))
                if told is not None and told > LONGEST_HOLD:
                    raise UserError(
                        f"{self.side.where}: {self._server} asks to come back in {told:,.0f} s "
                        f"({first_line(error)[:200]}); the answers until now are kept, run the same command again then"
                    ) from error
                # A limit that is told with its end is no failure, as long as it is told within reason.
                limited = status == 429 and bool(told) and time.monotonic() - begun <= PATIENCE
                attempt += not limited
                if attempt > tries:
                    raise UserError(
                        f"{self.side.where}: {self._server} failed {tries + 1} times in a row on one request "
                        f"({first_line(error)[:200]}); the answers until now are kept, run the same command again to "
                        "go on"
                    ) from error
                await self._wait(told or 0.0, 0 if limited else attempt)

    def _extra_body(self, prompt: Prompt) -> dict[str, Any]:
        """What is beyond OpenAI's own schema: the template's arguments, which hold the mode, and the recipe's own."""
        arguments = {"chat_template_kwargs": prompt.kwargs} if self.settings["send_template_kwargs"] else {}
        sampling = self.side.sampling
        arguments |= {k: v for k, v in (("top_k", sampling.top_k), ("min_p", sampling.min_p)) if v}
        if prompt.kwargs.get("tools"):
            arguments["tools"] = [t if "function" in t else {"type": "function", "function": t}
                                  for t in prompt.kwargs["tools"]]  # fmt: skip
        return {**arguments, **(self.settings.get("extra_body") or {})}

    async def _wait(self, told: float, attempt: int) -> None:
        """Wait as the server says; a told limit holds for all requests, not only for the one that met it. After the
        first, second, ... failed try, wait longer by oneself too.
        """
        if told:
            self.pace.hold(told)
        if attempt:
            # Spread out, so that requests which failed together do not come back together.
            await asyncio.sleep(min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0))

    @property
    def _server(self) -> str:
        return f"the server at {self.settings['base_url']}"


class Unreadable(Exception):
    """A reply that is no chat completion, such as a gateway's page or half a body."""


def check_reply(reply: Any) -> None:
    """Raise Unreadable for a reply without a message in text or a count of its tokens."""
    try:
        message, usage = reply.choices[0].message, reply.usage
        content = text_of(message.content)
        counts = (usage.completion_tokens, usage.prompt_tokens)
        whole = isinstance(content, str) and isinstance(reasoning_of(message), str)
    except (AttributeError, TypeError, IndexError, KeyError):
        whole, counts = False, ()
    if not whole or not all(isinstance(n, int) for n in counts):
        raise Unreadable(f"an answer without choices, text or usage: {str(reply)[:80]!r}")


def text_of(content: Any) -> Any:
    """A message's content as text; some servers send it in parts."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type") == "text")
    return "" if content is None else content


def reasoning_of(message: Any) -> Any:
    """The reasoning that a server parsed out of the content, by either of its usual names."""
    extra = message.model_extra or {}
    return extra.get("reasoning_content") or extra.get("reasoning") or ""


def served_by(reply: Any) -> str | None:
    """What the server says of itself: its model's name and build."""
    told = [getattr(reply, name, None) for name in ("model", "system_fingerprint")]
    return "@".join(t for t in told if isinstance(t, str) and t) or None


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
    text, reasoning = text_of(choice.message.content), reasoning_of(choice.message).strip()
    if reasoning and "</think>" not in text:
        text = f"<think>\n{reasoning}\n</think>\n\n{text.lstrip()}"
    elif "</think>" in text and "<think>" not in text:
        text = "<think>" + text  # the server's template opened the block in the prompt
    # Half of a character (a lone surrogate) can be written to no file.
    text = text.encode("utf-8", "replace").decode()
    reason = choice.finish_reason
    return Completion(text, reply.usage.completion_tokens, reason in ENDED, PARSED.get(reason))
