"""Pickles read by Python's own unpickler in Python, cut down to what data need; nothing that they say is run.

The unpickler in C has no table to cut down, and a single LONG_BINPUT makes it allocate 64 GB.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

Instructions = dict[int, Callable[..., None]]  # by their codes


def instructions(names: str) -> Instructions:
    """Instructions of Python's unpickler."""
    return {code: pickle._Unpickler.dispatch[code] for code in (getattr(pickle, name)[0] for name in names.split())}


class BoundedUnpickler(pickle._Unpickler):
    """Lists, tuples, numbers and text; what a few makers make; and a bound on what all of that takes together.

    Parameters
    ----------
    file : the pickle
    budget : bytes that the values may take beyond those that the file itself has
    encoding : takes the strings of Python 2 to text
    """

    stack: list[Any]
    read: Callable[[int], bytes]
    append: Callable[[Any], None]
    dispatch: ClassVar[Instructions] = instructions(
        "PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINSTRING SHORT_BINSTRING "
        "BINUNICODE EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 BINPUT LONG_BINPUT BINGET "
        "LONG_BINGET GLOBAL"
    )
    makers: ClassVar[Mapping[str, Any]]  # by a pattern of the names that a pickle may ask for
    stray: ClassVar[str]  # ends the message about an instruction that is not in the table
    foreign: ClassVar[str]  # ends the messages about anything else that a pickle may not have

    def __init__(self, file: Any, budget: int, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self.left = budget

    def load(self) -> Any:
        try:
            return super().load()
        except KeyError as error:
            raise pickle.UnpicklingError(f"instruction or reference {error}{self.stray}") from error

    def find_class(self, module: str, name: str) -> Any:
        for pattern, maker in self.makers.items():
            if re.fullmatch(pattern, f"{module}.{name}"):
                return maker
        raise pickle.UnpicklingError(f"asks for {module}.{name}, which {self.foreign}")

    def load_reduce(self) -> None:
        arguments, maker = self.stack.pop(), self.stack[-1]
        if not callable(maker) or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError(f"calls something that {self.foreign}")
        self.stack[-1] = self.make(maker, arguments)

    def load_build(self) -> None:
        state, record = self.stack.pop(), self.stack[-1]
        if not isinstance(record, Record):
            raise pickle.UnpicklingError(f"sets the state of something that {self.foreign}")
        record.state = state

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.BUILD[0]] = load_build

    def make(self, maker: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """What a call makes, whose bytes are spent."""
        raise NotImplementedError

    def spend(self, size: int) -> None:
        """Take bytes from the budget.

        Raises
        ------
        pickle.UnpicklingError : there are not so many
        """
        self.left -= size
        if self.left < 0:
            raise pickle.UnpicklingError("makes more values than its bytes can hold")


class Record:
    """What stands for an object while its pickle is read: BUILD stores its state, and nothing is checked yet."""

    state: Any = None
