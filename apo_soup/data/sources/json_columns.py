"""Columns of tables that hold JSON as text (`arrow.json`), as `datasets` writes calls and tools of unlike arguments."""

from collections.abc import Callable
from typing import Any

from apo_soup.data.sources.json_text import json_value
from apo_soup.data.sources.rows import Fields

Decoder = Callable[[Any], Any]


def json_columns(schema: Any) -> dict[str, Decoder]:
    """For each column of a table's schema with JSON in it, at whatever depth, what decodes a value of it."""
    decoders = {field.name: json_decoder(field.type) for field in schema}
    return {name: decode for name, decode in decoders.items() if decode}


def json_decoder(kind: Any) -> Decoder | None:
    """What decodes the JSON inside values of an Arrow type; None where it has none."""
    import pyarrow as pa

    if isinstance(kind, pa.JsonType):
        return _decoded
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inside = json_decoder(kind.value_type)
        return inside and _each(inside)
    if pa.types.is_struct(kind):
        inner = json_columns(kind)
        return _fields(inner) if inner else None
    return None


def decoded_row(fields: Fields, decoders: dict[str, Decoder]) -> Fields:
    """A row whose JSON is decoded.

    Raises:
        ValueError: a text of a JSON column is none.
    """
    return {name: decoders[name](value) if name in decoders else value for name, value in fields.items()}


def _decoded(value: Any) -> Any:
    return json_value(value) if isinstance(value, str) else value


def _each(decode: Decoder) -> Decoder:
    return lambda values: None if values is None else [decode(value) for value in values]


def _fields(decoders: dict[str, Decoder]) -> Decoder:
    return lambda fields: None if fields is None else decoded_row(fields, decoders)
