"""A pickle machine that builds data and nothing else.

Python's own unpickler imports and calls whatever a file names. This one executes the opcodes of
plain containers, numbers and strings; a name of a class or function stands for one of a few
builders that the caller gives, and any other name is an error. Nothing is imported, no attribute
is set, no `__reduce__` or `__setstate__` runs.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any

from hardset.cli import one_line
from pretrain_jax.weights.errors import WeightsError

__all__ = ["Builder", "Inert", "run_pickle"]

Builder = Callable[..., Any]
# The opcodes name what they push in upper case; torch writes protocol 2, others are rare.
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LITERALS = frozenset(
    {
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINFLOAT",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINSTRING",
        "SHORT_BINSTRING",
        "BINUNICODE",
        "BINUNICODE8",
        "SHORT_BINUNICODE",
    }
)


class Inert:
    """Something of a file that was not built, because no weights depend on it."""

    def __init__(self, *_: Any) -> None:
        pass


KEYS = (str, bytes, int, float, type(None), Inert)
LONGEST_INTEGER = 128  # bits; the first number of a legacy file has 80
# Smaller integers have different hashes: of larger ones thousands can share one.
LARGEST_KEY = 1 << 60
# A tensor takes some forty; a file of more would take minutes and holds no weights.
MOST_STEPS = 2_000_000


def _kind(value: Any) -> str:
    """What a value is, for a message; never its content."""
    return "a very large integer" if isinstance(value, int) else f"a {type(value).__name__}"


class _Mark:
    """Marks a place on the stack."""


def run_pickle(
    stream: IO[bytes],
    builders: Mapping[str, Builder | Any],
    persistent: Callable[[Any], Any],
) -> Any:
    """The object that a pickle describes, made of containers, numbers, strings and builders.

    Args:
        stream: where the pickle begins; read to its end (the STOP opcode) and no further.
        builders: what a dotted name stands for, for example "collections.OrderedDict".
        persistent: turns a persistent identifier into an object.

    Raises:
        WeightsError: a name that is not in `builders`, an opcode of no plain data, a damaged file,
            or one of more than two million opcodes.
    """
    machine = _Machine(builders, persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if opcode.name == "STOP":
                return machine.pop()
            if count >= MOST_STEPS:
                raise WeightsError(f"its pickle has more than {MOST_STEPS} opcodes")
            machine.step(opcode.name, argument)
    except WeightsError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise WeightsError(f"damaged pickle: {one_line(error)}") from None
    raise WeightsError("damaged pickle: it has no end")


class _Machine:
    """Stack and memo of one run."""

    def __init__(
        self, builders: Mapping[str, Builder | Any], persistent: Callable[[Any], Any]
    ) -> None:
        self.builders = builders
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        value = self.stack.pop()
        if isinstance(value, _Mark):
            raise WeightsError("damaged pickle: nothing before a mark")
        return value

    def pop_to_mark(self) -> list[Any]:
        items: list[Any] = []
        while not isinstance(value := self.stack.pop(), _Mark):
            items.append(value)
        return items[::-1]

    def step(self, name: str, argument: Any) -> None:
        """Execute one opcode."""
        if name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in LITERALS:
            if isinstance(argument, int) and argument.bit_length() > LONGEST_INTEGER:
                raise WeightsError(f"an integer of {argument.bit_length()} bits is no size")
            self.stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name not in ("PROTO", "FRAME"):
            act = getattr(self, f"on_{name.lower()}", None)
            if act is None:
                raise WeightsError(f"the pickle opcode {name} describes no plain data")
            act(argument)

    def on_mark(self, _: None) -> None:
        self.stack.append(_Mark())

    def on_empty_dict(self, _: None) -> None:
        self.stack.append({})

    def on_empty_list(self, _: None) -> None:
        self.stack.append([])

    def on_empty_tuple(self, _: None) -> None:
        self.stack.append(())

    def on_tuple(self, _: None) -> None:
        self.stack.append(tuple(self.pop_to_mark()))

    def on_tuple1(self, _: None) -> None:
        self.stack.append((self.pop(),))

    def on_tuple2(self, _: None) -> None:
        second = self.pop()
        self.stack.append((self.pop(), second))

    def on_tuple3(self, _: None) -> None:
        third, second = self.pop(), self.pop()
        self.stack.append((self.pop(), second, third))

    def on_append(self, _: None) -> None:
        self.extend([self.pop()])

    def on_appends(self, _: None) -> None:
        self.extend(self.pop_to_mark())

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Inert):
            raise WeightsError("damaged pickle: items are added to what is no list")

    def on_setitem(self, _: None) -> None:
        value = self.pop()
        self.assign([self.pop(), value])

    def on_setitems(self, _: None) -> None:
        self.assign(self.pop_to_mark())

    def assign(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict | Inert):
            raise WeightsError("damaged pickle: entries are added to what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Nested tuples, for one, can take exponential time to hash.
            if not isinstance(key, KEYS) or (isinstance(key, int) and abs(key) > LARGEST_KEY):
                raise WeightsError(f"a dictionary has {_kind(key)} as key")
            if isinstance(target, dict):
                if key in target:
                    raise WeightsError(f"a dictionary has the key {one_line(key)} twice")
                target[key] = value

    def on_global(self, argument: str) -> None:
        self.stack.append(self.find(*argument.split(" ")))

    def on_stack_global(self, _: None) -> None:
        name = self.pop()
        self.stack.append(self.find(self.pop(), name))

    def find(self, module: str, name: str) -> Any:
        if not isinstance(module, str) or not isinstance(name, str):
            raise WeightsError("damaged pickle: a name is no string")
        dotted = f"{module}.{name}"
        if dotted not in self.builders:
            raise WeightsError(
                f"it names {one_line(dotted)!r}; only tensors and plain data are read, nothing is "
                "imported or run. A whole pickled model has to be saved again as its state_dict"
            )
        return self.builders[dotted]

    def on_newobj(self, _: None) -> None:
        self.on_reduce(_)

    def on_reduce(self, _: None) -> None:
        arguments, builder = self.pop(), self.pop()
        known = any(builder is one for one in self.builders.values())
        if not known or not callable(builder) or not isinstance(arguments, tuple):
            raise WeightsError("damaged pickle: a call of what can not be called")
        self.stack.append(builder(*arguments))

    def on_build(self, _: None) -> None:
        self.pop()  # attributes of an object: none is needed

    def on_binpersid(self, _: None) -> None:
        self.stack.append(self.persistent(self.pop()))
