"""What torch.save wrote, read without trust: plain values and tensors as large as their file, and no call of anything it names.

`torch.load(weights_only=True)` keeps code out, but takes the memory and time that a file asks for: deflated zeros, tensors beyond their
storage, keys of tuples in tuples. `tests/test_strangers_weights.py` has such files; eighteen of them are too much for it.
"""

from __future__ import annotations

import functools
import io
import math
import os
import pickle
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final

import torch
from torch import Tensor

from vpngen import files

MOST_PICKLE: Final = 2**22
"""Bytes of what a file says beside its tensors."""
MAGIC: Final = 0x1950A86A20F9469CFC6C
"""What the form without a zip begins with, before torch 1.6."""
STORAGES: Final = {
    f"{name}Storage": getattr(torch, dtype)
    for name, dtype in (
        ("Double", "float64"), ("Float", "float32"), ("Half", "float16"), ("BFloat16", "bfloat16"), ("Long", "int64"),
        ("Int", "int32"), ("Short", "int16"), ("Char", "int8"), ("Byte", "uint8"), ("Bool", "bool"),
    )
}  # fmt: skip
KEYS: Final = (str, int, float, bool, type(None))
"""Types of keys; the hash of a tuple takes as much time and stack as whoever nests it likes."""
OPCODES: Final = (
    pickle.MARK, pickle.STOP, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT, pickle.NONE, pickle.NEWTRUE,
    pickle.NEWFALSE, pickle.BINUNICODE, pickle.SHORT_BINSTRING, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2,
    pickle.TUPLE3, pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS, pickle.BINGET,
    pickle.LONG_BINGET, pickle.BINPUT, pickle.LONG_BINPUT, pickle.GLOBAL, pickle.REDUCE, pickle.BUILD, pickle.BINPERSID, pickle.PROTO,
)  # fmt: skip
"""Those that torch.save writes."""

Storage = Callable[[str, torch.dtype, int], Tensor]
"""From a key, a type and a count to the numbers (count,)."""


class NamedError(ValueError):
    """The file names something that is not used in weights; `named` is what."""

    def __init__(self, named: str) -> None:
        super().__init__(f"names {named}")
        self.named = named


def read(path: Path) -> Any:
    """The object in a file of torch.save, in either of its forms, on the host.

    Raises:
        OSError: there is no such file, or it is no regular one.
        NamedError: it names another function or class than those of tensors and dictionaries.
        Exception: whatever a damaged file leads to.
    """
    with open(files.open_regular(path), "rb") as file:
        zipped, _ = file.read(2) == b"PK", file.seek(0)
        return (_read_zip if zipped else _read_plain)(file, os.fstat(file.fileno()).st_size)


class _Directory:
    """A file of which nothing large is read at once, while zipfile looks for what it holds."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self.seekable, self._read = file.seek, file.tell, file.seekable, file.read

    def read(self, size: int = -1) -> bytes:
        if size > MOST_PICKLE:
            raise ValueError("its directory is too large")
        return self._read(size)


def _read_zip(file: BinaryIO, size: int) -> Any:
    with zipfile.ZipFile(_Directory(file)) as directory:
        entries = {entry.filename: entry for entry in directory.infolist()}
    prefixes = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(prefixes) != 1:
        raise ValueError("it has no data.pkl, or several")
    archive, left = zipfile.ZipFile(file), size

    def content(name: str, wanted: int | None = None) -> bytes:
        nonlocal left
        entry = entries[prefixes[0] + name]
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ValueError(f"{name} is compressed, which torch.save does not do")
        left -= entry.file_size
        if left < 0 or (wanted is None and entry.file_size > MOST_PICKLE) or wanted not in (None, entry.file_size):
            raise ValueError(f"{name} is larger than it can be")
        return archive.read(entry)

    def storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
        data = bytearray(content(f"data/{key}", count * dtype.itemsize))
        return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)

    if prefixes[0] + "byteorder" in entries and content("byteorder") != b"little":
        raise ValueError("its bytes are in the order of another machine")
    return _Unpickler(io.BytesIO(content("data.pkl")), storage).load()


def _read_plain(file: BinaryIO, size: int) -> Any:
    head, left = io.BytesIO(file.read(MOST_PICKLE)), size
    made: dict[str, Tensor] = {}

    def storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
        nonlocal left
        left -= count * dtype.itemsize
        if left < 0:
            raise ValueError("its tensors are larger than it is")
        made[key] = torch.empty(count, dtype=dtype)
        return made[key]

    magic, _, about, value, keys = (_Unpickler(head, storage).load() for _ in range(5))
    if magic != MAGIC or not about["little_endian"]:
        raise ValueError("it is no file of torch.save, or of another machine")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(made):
        raise ValueError("its tensors are not those that it lists")
    file.seek(head.tell())
    for key in keys:
        target = made[key]
        view = target.view(torch.uint8).numpy().data if len(target) else memoryview(b"")
        if int.from_bytes(file.read(8), "little") != len(target) or (view and file.readinto(view) != len(view)):  # type: ignore[attr-defined]
            raise ValueError("its tensors are cut short")
    return value


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """A part of a storage: no more numbers than it has."""
    if (
        not isinstance(storage, Tensor)
        or len(shape) > 16
        or math.prod(shape) > storage.numel()
        or min(shape, default=0) < 0
    ):
        raise ValueError("a tensor is larger than what it is made of")
    return storage.as_strided(shape, strides, offset)


def _ordered(pairs: Any = ()) -> OrderedDict[Any, Any]:
    made = OrderedDict[Any, Any]()
    for key, value in pairs:
        made[_key(key)] = value
    return made


def _counter(counts: Any = None) -> Counter[Any]:
    if not isinstance(counts, Mapping | None):
        raise TypeError("a counter of other things than counts")
    return Counter(counts)


def _key(key: Any) -> Any:
    if type(key) not in KEYS:
        raise TypeError(f"a key that is a {type(key).__name__}")
    return key


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 has bytes."""
    if encoding != "latin1":
        raise ValueError("bytes in another encoding")
    return text.encode("latin1")


_NAMED: Final[dict[str, Callable[..., Any]]] = {
    "collections.OrderedDict": _ordered,
    "collections.Counter": _counter,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch.Size": lambda sizes=(): tuple(sizes),
    "_codecs.encode": _encode,
}


_PYTHON: Any = pickle.__dict__["_Unpickler"]


class _Unpickler(_PYTHON):  # type: ignore[misc]
    """Python's own, in Python: the one in C allocates memory for whatever memo index a file names."""

    dispatch: ClassVar[dict[int, Any]] = {opcode[0]: _PYTHON.dispatch[opcode[0]] for opcode in OPCODES}

    def __init__(self, file: BinaryIO, storage: Storage) -> None:
        super().__init__(file)
        self._storage, self._storages, self._left = storage, dict[str, Tensor](), MOST_PICKLE

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name; `load_reduce` calls it, and nothing else is."""
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (known := _NAMED.get(f"{module}.{name}")) is None:
            raise NamedError(f"{module}.{name}")
        return functools.partial(self._called, known)  # of this file alone, whatever it does to it

    def _called(self, known: Callable[..., Any], *given: Any) -> Any:
        """What a name gives. It copies what it is given, which may be remembered, so there is a limit for all of them together."""
        self._left -= sum(len(each) for each in given if isinstance(each, (str, bytes, list, tuple, dict)))
        if self._left < 0:
            raise ValueError("it makes more of what it holds than it can")
        return known(*given)

    def persistent_load(self, pid: Any) -> Tensor:
        """The numbers that a tensor is made of."""
        kind, dtype, key, _, count, *view = pid
        if (
            kind != "storage"
            or type(key) is not str
            or type(count) is not int
            or count < 0
            or any(v is not None for v in view)
        ):
            raise ValueError("a tensor without a storage")
        if not isinstance(dtype, torch.dtype):
            raise TypeError("a tensor of no type")
        if key not in self._storages:
            self._storages[key] = self._storage(key, dtype, count)
        return self._storages[key]

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._set(dict(zip(map(_key, items[::2]), items[1::2], strict=True)))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set({_key(key): value})

    def _set(self, items: dict[Any, Any]) -> None:
        if not isinstance(target := self.stack[-1], dict):
            raise TypeError("items of what is no dictionary")
        dict.update(target, items) if type(target) is dict else target.update(items)

    def load_append(self) -> None:
        value = self.stack.pop()
        self._extend([value])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, values: list[Any]) -> None:
        if type(target := self.stack[-1]) is not list:
            raise TypeError("values of what is no list")
        target.extend(values)

    def load_build(self) -> None:
        """Attributes, as the versions of modules that a state dict has; nobody asks for them."""
        self.stack.pop()
        if not isinstance(self.stack[-1], OrderedDict):
            raise TypeError("attributes of what has none")

    dispatch |= {
        pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems, pickle.APPEND[0]: load_append,
        pickle.APPENDS[0]: load_appends, pickle.BUILD[0]: load_build,
    }  # fmt: skip
