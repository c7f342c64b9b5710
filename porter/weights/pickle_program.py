"""Runs the small part of the pickle language that a file of tensors needs; nothing else can be expressed.

Unlike `pickle.Unpickler`, no opcode here can import, call or change anything but what the caller's table of globals
offers, so a hostile file has nothing to work with. Opcodes: https://docs.python.org/3/library/pickletools.html.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any

MARK = object()


class RefusedError(Exception):
    """The pickle asks for something that is not allowed; `name` says for what."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Record(dict[str, Any]):
    """An object of a class that is known by name only: what it was given as its state."""


def run_pickle(
    program: bytes,
    find_global: Callable[[str, str], Any],
    load_persistent: Callable[[Any], Any],
) -> Any:
    """The object that `program` builds.

    `find_global(module, name)` gives a type's stand-in or a function that may be called, or raises RefusedError.
    Raises RefusedError, or ValueError for what is not a pickle.
    """
    machine = _Machine(find_global, load_persistent)
    try:
        for opcode, argument, _ in pickletools.genops(program):
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.step(opcode.name, argument)
    except (LookupError, TypeError, ArithmeticError, AttributeError, RecursionError) as error:
        raise ValueError(f"bad pickle, {type(error).__name__}: {error}") from error
    raise ValueError("bad pickle, it has no end")


class _Machine:
    """The stack, the marks and the memo of one run."""

    def __init__(
        self, find_global: Callable[[str, str], Any], load_persistent: Callable[[Any], Any]
    ) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.find_global = find_global
        self.load_persistent = load_persistent

    def step(self, name: str, argument: Any) -> None:
        if name in PUSHED:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name]())
        elif name in ACTIONS:
            ACTIONS[name](self, argument)
        elif name not in IGNORED:
            raise RefusedError(f"the pickle opcode {name}")

    def pop_to_mark(self) -> list[Any]:
        start = len(self.stack) - 1
        while self.stack[start] is not MARK:
            start -= 1
            if start < 0:
                raise ValueError("bad pickle, a mark is missing")
        items = self.stack[start + 1 :]
        del self.stack[start:]
        return items

    def take(self, count: int) -> tuple[Any, ...]:
        if count > len(self.stack):
            raise ValueError("bad pickle, the stack is too short")
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return items

    def memoize(self, argument: int | None) -> None:
        self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]

    def find(self, argument: str | None) -> None:
        module, name = argument.split(" ", 1) if argument is not None else self.take(2)
        self.stack.append(self.find_global(module, name))

    def reduce(self, _: Any) -> None:
        function, arguments = self.take(2)
        if not callable(function):
            raise RefusedError(f"a call of {function!r}")
        self.stack.append(function(*arguments))

    def build(self, _: Any) -> None:
        """Gives an object its state: kept for a Record, of no interest for an OrderedDict, else refused."""
        (state,) = self.take(1)
        target = self.stack[-1]
        if isinstance(target, Record) and isinstance(state, dict):
            target.update(state)
        elif not isinstance(target, dict):
            raise RefusedError(f"a state for {type(target).__name__}")

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("bad pickle, appends to what is not a list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict):
            raise ValueError("bad pickle, sets items of what is not a dict")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def add_items(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not set:
            raise ValueError("bad pickle, adds to what is not a set")
        self.stack[-1].update(items)

    def make_dict(self, items: list[Any]) -> None:
        self.stack.append(dict(zip(items[::2], items[1::2], strict=True)))


IGNORED = frozenset({"PROTO", "FRAME"})
PUSHED = frozenset(
    [
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "LONG4",
        "BINFLOAT",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINSTRING",
        "SHORT_BINSTRING",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
    ]
)
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": set,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: MARK,
}
ACTIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "BINPUT": _Machine.memoize,
    "LONG_BINPUT": _Machine.memoize,
    "MEMOIZE": _Machine.memoize,
    "BINGET": lambda m, at: m.stack.append(m.memo[at]),
    "LONG_BINGET": lambda m, at: m.stack.append(m.memo[at]),
    "POP": lambda m, _: m.take(1),
    "POP_MARK": lambda m, _: m.pop_to_mark(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "GLOBAL": _Machine.find,
    "STACK_GLOBAL": _Machine.find,
    "BINPERSID": lambda m, _: m.stack.append(m.load_persistent(m.stack.pop())),
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "BUILD": _Machine.build,
    "APPEND": lambda m, _: m.append(list(m.take(1))),
    "APPENDS": lambda m, _: m.append(m.pop_to_mark()),
    "SETITEM": lambda m, _: m.set_items(list(m.take(2))),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    "ADDITEMS": lambda m, _: m.add_items(m.pop_to_mark()),
    "DICT": lambda m, _: m.make_dict(m.pop_to_mark()),
    "LIST": lambda m, _: m.stack.append(m.pop_to_mark()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "FROZENSET": lambda m, _: m.stack.append(frozenset(m.pop_to_mark())),
    "TUPLE1": lambda m, _: m.stack.append(m.take(1)),
    "TUPLE2": lambda m, _: m.stack.append(m.take(2)),
    "TUPLE3": lambda m, _: m.stack.append(m.take(3)),
}
