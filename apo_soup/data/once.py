"""A property that is computed once an object: as functools' own, without the lock, which takes longer than most of what
is computed here, row by row.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

OwnerT = TypeVar("OwnerT")
ValueT = TypeVar("ValueT")


class once(Generic[OwnerT, ValueT]):  # noqa: N801 - a decorator
    """A method as a property whose value the object keeps. Two threads may both compute it, to the same value."""

    def __init__(self, compute: Callable[[OwnerT], ValueT]):
        self.compute, self.name, self.__doc__ = compute, compute.__name__, compute.__doc__

    @overload
    def __get__(self, item: None, owner: Any = None) -> "once[OwnerT, ValueT]": ...

    @overload
    def __get__(self, item: OwnerT, owner: Any = None) -> ValueT: ...

    def __get__(self, item: OwnerT | None, owner: Any = None) -> "once[OwnerT, ValueT] | ValueT":
        """The value; from then on the object has it under the same name, and nobody asks here."""
        if item is None:
            return self
        value: ValueT = self.compute(item)
        item.__dict__[self.name] = value
        return value
