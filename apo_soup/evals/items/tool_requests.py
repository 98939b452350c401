"""Requests that one of a few tools answers, with the call that does, from a seed.

Tools are described as the Hub's chat templates take them: a name, a description and a JSON Schema of the parameters.
"""

import random
from collections.abc import Callable
from typing import Any

from apo_soup.config.eval import ToolRequestItems

_CITIES = ("Paris", "Madrid", "Berlin", "Rome", "Lisbon", "London", "Vienna", "Oslo")
_CURRENCIES = ("EUR", "USD", "GBP", "CHF", "JPY")


def _tool(name: str, description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """A tool's description with closed parameters: no argument beyond those listed."""
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"name": name, "description": description, "parameters": schema}


OFFERED_TOOLS = (
    _tool(
        "get_weather",
        "The weather forecast of a city.",
        {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 14}},
        ["city", "days"],
    ),
    _tool(
        "convert_currency",
        "Convert an amount of money.",
        {
            "amount": {"type": "number"},
            "source": {"type": "string", "enum": list(_CURRENCIES)},
            "target": {"type": "string", "enum": list(_CURRENCIES)},
        },
        ["amount", "source", "target"],
    ),
    _tool(
        "set_timer",
        "Start a timer.",
        {"minutes": {"type": "integer", "minimum": 1}, "label": {"type": "string"}},
        ["minutes"],
    ),
    _tool(
        "add",
        "Add two whole numbers.",
        {"a": {"type": "integer"}, "b": {"type": "integer"}},
        ["a", "b"],
    ),
)


def _weather(rng: random.Random) -> tuple[str, dict[str, Any]]:
    city, days = rng.choice(_CITIES), rng.randint(2, 9)
    return f"What will the weather in {city} be over the next {days} days?", {"city": city, "days": days}


def _currency(rng: random.Random) -> tuple[str, dict[str, Any]]:
    source, target = rng.sample(_CURRENCIES, 2)
    amount = rng.randint(10, 900)
    return (
        f"How much is {amount} {source} in {target}?",
        {"amount": amount, "source": source, "target": target},
    )


def _timer(rng: random.Random) -> tuple[str, dict[str, Any]]:
    minutes = rng.randint(2, 90)
    return f"Set a timer for {minutes} minutes.", {"minutes": minutes}


def _addition(rng: random.Random) -> tuple[str, dict[str, Any]]:
    a, b = rng.randint(100, 9999), rng.randint(100, 9999)
    return f"Use a tool to add {a} and {b}.", {"a": a, "b": b}


_REQUESTS: dict[str, Callable[[random.Random], tuple[str, dict[str, Any]]]] = {
    "get_weather": _weather,
    "convert_currency": _currency,
    "set_timer": _timer,
    "add": _addition,
}


def generated_tool_requests(seed: int, items: ToolRequestItems) -> list[dict[str, Any]]:
    """Requests, every tool in turn, all tools on offer; the same for the same arguments."""
    rng, rows = random.Random(f"calls {seed}"), []
    for number in range(items.count):
        name = list(_REQUESTS)[number % len(_REQUESTS)]
        question, arguments = _REQUESTS[name](rng)
        rows.append(
            {
                "messages": [{"role": "user", "content": question}],
                "tools": list(OFFERED_TOOLS),
                "call": {"name": name, "arguments": arguments},
                "group": name,
            }
        )
    return rows
