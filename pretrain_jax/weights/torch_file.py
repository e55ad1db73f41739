"""Reads files of torch.save without torch and without running code.

Both formats, zip and legacy, are read.
"""

import io
import math
import mmap
import pickletools
import re
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from hardset.cli import one_line

LONGEST_NAME = 160
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
LONGEST_INTEGER = 128  # bits; the first number of a legacy file has 80
# Integers below this have different hashes. Thousands of larger ones can share one hash.
LARGEST_KEY = 1 << 60
# A tensor takes some forty steps. A file of more steps than this would take minutes, and holds
# no weights.
MOST_STEPS = 2_000_000
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
PICKLE = b"\x80"  # how pickles begin since protocol 2
MOST_AXES = 32
LONGEST_KEY = 100  # characters of a storage's name, which torch makes a number
ENCRYPTED = 1  # the bit of a zip member's flags
STORAGES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
# Found in training checkpoints beside the weights: arguments, numbers of NumPy, devices.
INERT = (
    "argparse.Namespace",
    "collections.Counter",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    "torch.device",
    "torch.Size",
    "torch.float16",
    "torch.float32",
    "torch.float64",
    "torch.bfloat16",
    "torch.torch_version.TorchVersion",
    "builtins.dict",
    "__builtin__.dict",
)


class WeightsError(ValueError):
    """Says that a file of weights cannot be read, or does not fit."""


def names(all_of_them: Iterable[str], most: int = 5) -> str:
    """Return the first few names of a list, fit for a terminal.

    It says how many more there are.
    """
    rest = list(all_of_them)
    shown = ", ".join(one_line(name, LONGEST_NAME) for name in islice(rest, most))
    return shown if len(rest) <= most else f"{shown} and {len(rest) - most} more"


class Inert:
    """Stands for something of a file that was not built.

    No weights depend on it.
    """

    def __init__(self, *_: Any) -> None:
        pass


KEYS = (str, bytes, int, float, type(None), Inert)


def _kind(value: Any) -> str:
    """Return what a value is, for a message.

    Its content is never shown.
    """
    return "a very large integer" if isinstance(value, int) else f"a {type(value).__name__}"


class _Mark:
    """Marks a place on the stack."""


def run_pickle(
    stream: IO[bytes],
    builders: Mapping[str, Builder | Any],
    persistent: Callable[[Any], Any],
) -> Any:
    """Return the object that a pickle describes.

    It is made of containers, numbers, strings and builders.

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
    """Holds stack and memo of one run."""

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


@dataclass(frozen=True)
class Storage:
    """Represents a one-dimensional array of the file, not read yet."""

    key: str
    dtype: np.dtype
    count: int

    @property
    def nbytes(self) -> int:
        """Return the size of the storage in the file, in bytes."""
        return self.count * self.dtype.itemsize


@dataclass(frozen=True)
class Tensor:
    """Represents a strided view of a storage.

    Attributes:
        storage: what is viewed.
        offset: first element.
        shape: sizes.
        strides: steps in elements.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, values: NDArray) -> NDArray:
        """Return the tensor in its storage's values, read-only."""
        steps = tuple(step * values.itemsize for step in self.strides)
        return np.lib.stride_tricks.as_strided(
            values[self.offset :], self.shape, steps, writeable=False
        )


Reader = Callable[[Tensor], NDArray]


def read_torch_file(path: Path) -> tuple[Any, Reader]:
    """Return the content of a file of torch.save, its tensors still `Tensor`.

    Args:
        path: the file.

    Returns:
        The content, and a function that reads one of its tensors into a read-only array.

    Raises:
        WeightsError: a damaged file, or one that holds more than data.
    """
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    return _read_zip(path) if zipped else _read_legacy(path)


def _rebuild(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """Return the tensor that torch._utils._rebuild_tensor_v2 describes.

    It is checked to lie inside the storage.
    """
    if not isinstance(storage, Storage):
        raise WeightsError("damaged pickle: a tensor without storage")
    if not isinstance(shape, tuple) or not isinstance(strides, tuple) or len(shape) > MOST_AXES:
        raise WeightsError(f"damaged pickle: a tensor's shape is no tuple of at most {MOST_AXES}")
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in numbers):
        raise WeightsError("a tensor's offset, shape or strides are no non-negative integers")
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if count > storage.count or (count and last >= storage.count):
        raise WeightsError(
            f"a tensor of shape {one_line(shape)} with strides {one_line(strides)} from {offset} "
            f"exceeds its storage of {storage.count} values"
        )
    # Along an axis of one value no step is taken, and any may be written there.
    taken = tuple(step if n > 1 and count else 0 for n, step in zip(shape, strides, strict=True))
    return Tensor(storage, offset if count else 0, shape, taken)


def _parameter(data: Any, *_: Any) -> Any:
    """Return the data of a torch Parameter, which stand for it."""
    return data


def _dictionary(*arguments: Any) -> dict[Any, Any]:
    """Return an empty dictionary.

    Its entries follow in the pickle.
    """
    if any(not isinstance(argument, type) for argument in arguments):
        raise WeightsError("an OrderedDict of Python 2 is not read; save it again")
    return {}


BUILDERS: Mapping[str, Any] = {
    "torch._utils._rebuild_tensor": _rebuild,
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "collections.OrderedDict": _dictionary,
    "collections.defaultdict": _dictionary,
    **{
        f"{module}.{name}": dtype
        for module in ("torch", "torch.storage", "torch.cuda")
        for name, dtype in STORAGES.items()
    },
    **dict.fromkeys(INERT, Inert),
}


class _Storages:
    """Holds the storages that a pickle names.

    Each is described once.
    """

    def __init__(self) -> None:
        self.found: dict[str, Storage] = {}

    def __call__(self, identifier: Any) -> Storage:
        """Return the storage that a persistent identifier describes."""
        match identifier:
            case ("storage", np.dtype() as dtype, str() as key, str(), int() as count):
                pass
            case ("storage", np.dtype() as dtype, str() as key, str(), int() as count, None):
                pass
            case _:
                raise WeightsError("a storage is described in an unknown form")
        if not re.fullmatch(rf"\w{{1,{LONGEST_KEY}}}", key) or type(count) is not int or count < 0:
            raise WeightsError(f"a storage is called {one_line(key)!r} and has {count} values")
        storage = Storage(key, dtype, count)
        # Otherwise one storage would be read once for each of its descriptions.
        if self.found.setdefault(key, storage) != storage:
            raise WeightsError(f"the storage {key} is described twice, differently")
        return storage


def _read_zip(path: Path) -> tuple[Any, Reader]:
    """Read a zip file, the format since torch 1.6.

    It has data.pkl and one member for each storage.
    """
    with _archive(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if len(members) != len(archive.infolist()):
            raise WeightsError("the zip file holds two members of one name")
        if any(info.flag_bits & ENCRYPTED for info in members.values()):
            raise WeightsError("the zip file is encrypted; save it again without a password")
        roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise WeightsError("the zip file has no data.pkl of torch.save")
        # torch stores without compression: no member is larger than the file.
        if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
            raise WeightsError("the zip file is compressed, which torch.save never does")
        if sum(info.file_size for info in members.values()) > path.stat().st_size:
            raise WeightsError("the members of the zip file overlap")
        order = f"{roots[0]}byteorder"
        big = order in members and archive.read(order).strip() == b"big"
        pickle = io.BytesIO(archive.read(f"{roots[0]}data.pkl"))
        content = run_pickle(pickle, BUILDERS, _Storages())

    @cache
    def values(storage: Storage) -> NDArray:
        name = f"{roots[0]}data/{storage.key}"
        if name not in members:
            raise WeightsError(f"the storage {storage.key} is not in the zip file")
        with _archive(path) as archive:
            return _values(storage, archive.read(name), big=big)

    return content, lambda tensor: tensor.view(values(tensor.storage))


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open the zip file.

    Whatever is wrong with it is a WeightsError.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except WeightsError:
        raise
    except Exception as error:  # zip archives raise many types on damaged input
        raise WeightsError(f"damaged zip file: {one_line(error)}") from None


def _read_legacy(path: Path) -> tuple[Any, Reader]:
    """Read the format before torch 1.6.

    It has five pickles, then every storage with its length before it.
    """
    storages = _Storages()
    with path.open("rb") as file:
        if file.read(1) != PICKLE:  # nor can an empty file be mapped
            raise WeightsError("this is no file of torch.save")
    # A map, not a buffered file: reading beyond its end allocates nothing.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        stream = cast(IO[bytes], data)
        magic, protocol, system = (run_pickle(stream, {}, storages) for _ in range(3))
        if magic != LEGACY_MAGIC or protocol != LEGACY_PROTOCOL or not isinstance(system, dict):
            raise WeightsError("this is no file of torch.save")
        big = not system.get("little_endian", True)
        content = run_pickle(stream, BUILDERS, storages)
        keys = run_pickle(stream, {}, storages)
        # Strings alone: what is nested may take for ever to hash.
        named = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
        if not named or len(keys) != len(storages.found) or set(keys) != set(storages.found):
            raise WeightsError("the list of storages does not fit the tensors")
        begins: dict[str, int] = {}
        for key in keys:
            storage = storages.found[key]
            count = int.from_bytes(data.read(8), "big" if big else "little", signed=True)
            if count != storage.count:
                raise WeightsError(f"the storage {key} has {count} values, not what is promised")
            begins[key] = data.tell()
            data.seek(min(begins[key] + storage.nbytes, len(data)))

    @cache
    def values(storage: Storage) -> NDArray:
        with path.open("rb") as file:
            file.seek(begins[storage.key])
            size = min(storage.nbytes, path.stat().st_size)
            return _values(storage, file.read(size), big=big)

    return content, lambda tensor: tensor.view(values(tensor.storage))


def _values(storage: Storage, data: bytes, *, big: bool) -> NDArray:
    """Return the values of a storage from its bytes."""
    if len(data) != storage.nbytes:
        raise WeightsError(
            f"the storage {storage.key} has {len(data)} bytes, {storage.count} values of "
            f"{storage.dtype} need {storage.nbytes}"
        )
    if big != (sys.byteorder == "big"):
        data = np.frombuffer(data, f"u{storage.dtype.itemsize}").byteswap().tobytes()
    return np.frombuffer(data, storage.dtype)
