"""Any OpenAI-compatible endpoint: many requests at once, back-off, rate limits honoured.

The key is read from the environment variable `api_key_env` names (OPENAI_API_KEY unless given) and stands in no file.
A request that fails for a reason that may pass (429, 5xx, no connection, no answer in time) is tried again, after as
long as the server's Retry-After says or, without one, after a wait that doubles. When the tries are used up the run
stops; what was answered until then is kept.
"""

import asyncio
import os
import random
import time
from collections.abc import Collection
from email.utils import parsedate_to_datetime
from typing import Any

from apo.pairs.engines import Keep, Side
from apo.pairs.journal import Answer
from apo.pairs.prompts import Prompt
from corpus.completion import Completion
from pipeline.errors import UserError, first_line

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0


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
        key = os.environ.get(self.variable) or "none"
        self.client_of = lambda: AsyncOpenAI(
            base_url=self.settings["base_url"], api_key=key, max_retries=0, timeout=self.settings["timeout"]
        )
        self.pace = Pace(self.settings.get("requests_per_minute"))

    def answer(self, prompts: list[Prompt], done: Collection[str], keep: Keep) -> None:
        asyncio.run(self._answer([p for p in prompts if p.id not in done], keep))

    async def _answer(self, prompts: list[Prompt], keep: Keep) -> None:
        waiting = iter(prompts)

        async def work(client: Any) -> None:
            for prompt in waiting:
                keep([await self._ask(client, prompt)])

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
        for attempt in range(tries + 1):
            await self.pace.turn()
            try:
                reply = await client.chat.completions.create(
                    model=self.settings["model"],
                    messages=prompt.messages,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    max_tokens=sampling.max_new_tokens,
                    seed=self.side.seed(prompt.id, number),
                    extra_body=self._extra_body(prompt),
                )
                if not reply.choices or not reply.usage:
                    raise UserError(f"{self.side.where}: {self._server} answers without choices or without usage")
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
            except (openai.RateLimitError, openai.InternalServerError, openai.APIConnectionError) as error:
                if attempt == tries:
                    raise UserError(
                        f"{self.side.where}: {self._server} failed {tries + 1} times in a row on one request "
                        f"({first_line(error)[:200]}); the answers until now are kept, run the same command again to "
                        "go on"
                    ) from error
                await self._wait(error, attempt)
        raise AssertionError("the last attempt either returns or raises")

    def _extra_body(self, prompt: Prompt) -> dict[str, Any]:
        """What is beyond OpenAI's own schema: the template's arguments, which hold the mode, and the recipe's own."""
        arguments = {"chat_template_kwargs": prompt.kwargs} if self.settings["send_template_kwargs"] else {}
        return {**arguments, **(self.settings.get("extra_body") or {})}

    async def _wait(self, error: Any, attempt: int) -> None:
        """Wait as the server says; a told limit holds for all requests, not only for the one that met it."""
        told = retry_after(getattr(error, "response", None))
        if told:
            self.pace.hold(told)
            return
        # Spread out, so that requests which failed together do not come back together.
        await asyncio.sleep(min(LONGEST_WAIT, FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1.0))

    @property
    def _server(self) -> str:
        return f"the server at {self.settings['base_url']}"


class Pace:
    """When the next request may start: `per_minute` of them evenly spread, and none while a server asked for quiet."""

    def __init__(self, per_minute: float | None):
        self.gap = 60.0 / per_minute if per_minute else 0.0
        self.next = 0.0

    def hold(self, seconds: float) -> None:
        """No request starts for so long."""
        self.next = max(self.next, time.monotonic() + seconds)

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
    text = response.headers.get("retry-after") if response is not None else None
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def completion_of(reply: Any) -> Completion:
    """A reply as text; reasoning that the server parsed out goes back into its think block."""
    choice = reply.choices[0]
    text = choice.message.content or ""
    extra = choice.message.model_extra or {}
    reasoning = extra.get("reasoning_content") or extra.get("reasoning")
    if reasoning and "</think>" not in text:
        text = f"<think>\n{reasoning.strip()}\n</think>\n\n{text.lstrip()}"
    return Completion(text, reply.usage.completion_tokens, choice.finish_reason == "stop")
