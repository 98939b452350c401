"""Text of our Jinja2 templates: every value in it is escaped, and no character that controls something is left."""

from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from apo_soup.tables import printable


def rendered(template: str, **values: Any) -> str:
    """A template of `apo_soup/templates` with its values, which are text unless another template made them."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(str(resources.files("apo_soup") / "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else printable(value),
    )
