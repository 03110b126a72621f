"""Where the files of a store lie: in a folder, or as objects below a URL. Here they are read; `targets` write them.

A store is named by a path, by a URL (`s3://bucket/set.zarr`, `gs://`, `az://`, `file://`), or by a store of obstore.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import queue
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, TypeVar, cast

from vpngen import files
from vpngen.errors import ArgumentError, MissingError, RunError, UnreachableError
from vpngen.files import MOST_BYTES, Folder, LocalFile

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES: Final = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss")
"""Of URLs whose objects are read and written."""
KINDS: Final = {"S3Store": "s3", "GCSStore": "gs", "AzureStore": "az", "LocalStore": "file", "MemoryStore": "memory"}
"""Stores of obstore, and the scheme of their URLs."""
CLIENT_OPTIONS: Final = (
    "allow_http", "allow_invalid_certificates", "connect_timeout", "default_content_type", "http1_only", "http2_only",
    "pool_idle_timeout", "pool_max_idle_per_host", "proxy_ca_certificate", "proxy_excludes", "proxy_url", "randomize_addresses",
    "read_timeout", "root_certificate", "timeout", "user_agent",
)  # fmt: skip
"""Storage options of the connection; the others are of the kind of store."""
RETRY_OPTIONS: Final = ("max_retries", "retry_timeout")
"""Of requests that failed: how often they are sent again, and for how many seconds."""
CLAIMS: Final = "claims"
"""The folder of what runs claim in a store of objects, while there is any; see `targets.objects`."""
IN_FLIGHT: Final = 64
"""Requests to objects at once."""
TRIES: Final = 3
"""Times that what is more than a request is done, after each request has been sent often enough."""
TIMEOUT: Final = "10m"
"""Of a request, by default: parts of a shard may wait for a slow link; obstore's own would be half a minute."""
SILENCE: Final = "30s"
"""That a server may leave a request without an answer, by default, sending included; unless more than SMALL bytes are sent."""
SMALL: Final = 2**16
PART: Final = 16 * 2**20
"""Bytes of a part of an object that is sent in parts; servers take 10,000 of an object, which is 168 GB."""
PARTS: Final = 4
"""Parts of an object that are on the way at once."""
T = TypeVar("T")
_process: int | None = None
"""The process that began to ask for objects."""
_NO_BUCKET: Final = ("NoSuchBucket", "ContainerNotFound", "specified bucket does not exist")
_NOT_THERE: Final = ("NoSuchKey", "BlobNotFound", "does not exist", "No such object", "NotFound")
_SKEWED: Final = ("RequestTimeTooSkewed", "RequestExpired")
_METADATA: Final = (
    "/latest/api/token",
    "/latest/meta-data/iam",
    "/computeMetadata/v1",
    "/metadata/identity/oauth2/token",
)
"""Of URLs by which a cloud tells its own machines their credentials."""
_UNREACHED: Final = {
    "kind: Timeout": "it does not answer",
    "ConnectionRefused": "nothing listens at its endpoint",
    "dns error": "its name is not known",
}
"""What errors of a connection mean, by words of them."""
_DENIED: Final = ("AccessDenied", "403 Forbidden", "401 Unauthorized", "InvalidAccessKeyId", "SignatureDoesNotMatch")


class ObjectFile:
    """An object, read by ranges."""

    def __init__(self, objects: Objects, name: str, tail: int = 0) -> None:
        self._objects, self._name, self._tail = objects, name, b""
        self.size, self._tail = objects.end(name, tail) if tail else (objects.size(name), b"")

    def __enter__(self) -> ObjectFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is read of it any more."""
        self.forget()

    def forget(self) -> None:
        """Keep nothing of what was read first."""
        self._tail = b""

    def read(self, size: int, offset: int) -> bytes:
        """`size` bytes from a place on, fewer at its end."""
        size = max(min(size, self.size - offset), 0)
        if (first := offset - (self.size - len(self._tail))) >= 0:
            return self._tail[first : first + size]
        return bytes(self._objects.range(self._name, offset, size)) if size else b""

    def read_into(self, data: memoryview, offset: int) -> int:
        """Fill `data` (bytes) likewise; gives how many there were."""
        size = max(min(len(data), self.size - offset), 0)
        if size:
            data[:size] = memoryview(self._objects.range(self._name, offset, size))
        return size


class Objects:
    """Objects below a prefix of a bucket or container, by obstore.

    What is not there is a FileNotFoundError. All methods raise MissingError where there is no permission, and RunError where the server
    fails and has been asked often enough, with backoff, so that neither passes for a file that is not there.

    Attributes:
        url: what names it in messages, without anything secret.
        store: the store of obstore.
        asked: the URL and the options that it was made from, if it was: another process makes it from these, and its own environment.
        patient_store: the same, by which much is sent: it lets a server be silent for longer.
    """

    in_flight = IN_FLIGHT

    def __init__(
        self,
        url: str,
        store: ObjectStore,
        asked: tuple[str, dict[str, str]] | None = None,
        patient_store: ObjectStore | None = None,
    ) -> None:
        self.url, self.store, self.asked, self.patient_store = url, store, asked, patient_store or store

    @property
    def elsewhere(self) -> bool:
        """Whether other processes can have it too, and not only the memory of this one holds it."""
        return type(self.store).__name__ != "MemoryStore"

    @property
    def patient(self) -> bool:
        """Whether what failed is done again; not where somebody asked for no retries."""
        return self.asked is None or self.asked[1].get("max_retries") != "0"

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"Objects({self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Objects) and self.url == other.url and self.store == other.store

    def __hash__(self) -> int:
        return hash(self.url)

    def __reduce__(self) -> tuple[Any, ...]:
        return (place_of, self.asked) if self.asked is not None else (Objects, (self.url, self.store))

    def _ask(self, name: str, call: Callable[[], T], reads: bool = True) -> T:
        """What a call of obstore gives; what its store refuses becomes an error that says what to do, without anything secret.

        One that reads is given up by a signal. One that writes is not: it might arrive after what is written next.
        """
        global _process
        _process = _process or os.getpid()
        if _process != os.getpid():
            how = "start workers with multiprocessing_context='forkserver' or 'spawn'"
            raise RunError(
                f"{self} was opened before this process was forked, and its connections do not survive that: {how}"
            )
        try:
            return _hearing(call) if reads else call()
        except BaseException as error:
            kind = type(error)
            if kind.__name__ == "PanicException":  # of Rust, and no Exception of Python
                raise RunError(f"obstore failed for {str(self)!r}: {_plain(str(error))}") from None
            if not kind.__module__.startswith("obstore") and kind is not FileNotFoundError:
                raise
            _raise(self, name, error)

    def read(self, name: str, most: int = MOST_BYTES) -> bytes:
        """The bytes of an object that has `most` at most. Raises OSError."""
        import obstore

        def whole() -> bytes:
            found = obstore.get(self.store, name)
            if (size := found.meta["size"]) > most:
                raise OSError(
                    errno.EFBIG, f"Larger than the {most:,} bytes that such an object may have ({size:,})", name
                )
            return bytes(found.bytes())

        return self._ask(name, whole)

    def head(self, name: str) -> Mapping[str, Any]:
        """What the store knows of an object: `size`, `e_tag`, `last_modified`."""
        import obstore

        return self._ask(name, lambda: obstore.head(self.store, name))

    def size(self, name: str) -> int:
        """The bytes of an object."""
        return int(self.head(name)["size"])

    def end(self, name: str, tail: int) -> tuple[int, bytes]:
        """The size of an object, and up to `tail` bytes at its end."""
        import obstore

        def found() -> tuple[int, bytes]:
            try:
                answer = obstore.get(self.store, name, options={"range": {"suffix": tail}})
                return int(answer.meta["size"]), bytes(answer.bytes())
            except obstore.exceptions.NotSupportedError:  # Azure has no such ranges
                size = int(obstore.head(self.store, name)["size"])
                least = min(tail, size)
                return size, bytes(
                    obstore.get_range(self.store, name, start=size - least, length=least)
                ) if least else b""
            except obstore.exceptions.GenericError as error:
                if _is_unreached(str(error)) or obstore.head(self.store, name)["size"]:
                    raise
                return 0, b""  # of an empty object there is no range

        size, data = self._ask(name, found)
        if len(data) != min(tail, size):
            what = f"{len(data):,} bytes were answered to a suffix range of {tail:,}, which sharded Zarr needs; see `vpngen doctor URL`"
            raise MissingError(f"{f'{self}/{name}'!r} cannot be read: {what}")
        return size, data

    def range(self, name: str, offset: int, size: int) -> Any:
        """Bytes of an object, as a buffer."""
        import obstore

        return self._ask(name, lambda: obstore.get_range(self.store, name, start=offset, length=size))

    def sizes(self, name: str) -> dict[str, int]:
        """The objects that a folder holds itself, and their bytes. A list that is cut is asked for again."""
        for _ in range(TRIES - 1):
            try:
                return self._listed(name)
            except UnreachableError:
                raise
            except RunError:
                continue
        return self._listed(name)

    def _listed(self, name: str) -> dict[str, int]:
        prefix = f"{name}/" if name else ""
        found = ((path.removeprefix(prefix), size) for path, size in self.walk(name))
        return {last: size for last, size in found if "/" not in last}

    def names(self, name: str) -> list[str]:
        """Their names."""
        return list(self.sizes(name))

    def walk(self, name: str = "") -> Iterator[tuple[str, int]]:
        """All objects below a folder, in no order, and their bytes; asked for page by page."""
        import obstore

        pages = obstore.list(self.store, f"{name}/" if name else None, chunk_size=1000)
        while (page := self._ask(name, lambda: next(pages, None))) is not None:
            yield from ((found["path"], found["size"]) for found in page)

    def put(
        self, name: str, data: Any, create: bool = False, over: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """Store an object, whole or not at all; `data` is bytes, or pieces that are sent in parts. Gives its `e_tag` and `version`.

        Raises:
            FileExistsError: with `create`, there is one already; with `over`, what `head` gave of one, there is another now.
        """
        import obstore

        same: Any = {key: over[key] for key in ("e_tag", "version") if over.get(key) is not None} if over else None
        mode: Any = "create" if create else same or None  # a server without tags cannot tell
        store = self.store if isinstance(data, bytes) and len(data) <= SMALL else self.patient_store

        def sent() -> Mapping[str, Any]:
            try:
                if mode is not None:
                    return obstore.put(store, name, data, mode=mode)
                return obstore.put(store, name, data, chunk_size=PART, max_concurrency=PARTS)
            except obstore.exceptions.PreconditionError:
                raise FileExistsError(errno.EEXIST, "Was changed meanwhile", f"{self}/{name}") from None
            except obstore.exceptions.AlreadyExistsError as error:
                if create:
                    raise
                raise RunError(
                    f"{f'{self}/{name}'!r}: {_plain(str(error))}"
                ) from None  # a server that wants to be asked again

        return self._ask(name, sent, reads=False)

    def delete(self, *names: str) -> None:
        """Remove objects; what is not there is no error."""
        import obstore

        try:
            self._ask(names[0] if len(names) == 1 else "", lambda: obstore.delete(self.store, names), reads=False)
        except FileNotFoundError:  # nothing behind it was removed
            for name in names if len(names) > 1 else ():
                self.delete(name)

    def file(self, name: str, tail: int = 0) -> ObjectFile:
        """An object. `tail` bytes at its end are read first, and cost no request of their own."""
        return ObjectFile(self, name, tail)


Place: TypeAlias = Folder | Objects
"""The files of a store, by names such as `train/video/c.0.0.0.0`, to be read. It is a value: `str(place)` names it, and it can be pickled."""
File: TypeAlias = LocalFile | ObjectFile
"""One of them, open."""
Where: TypeAlias = "str | Path | ObjectStore | Place"
"""What names a store."""


class _Helper(threading.Thread):
    """A thread that makes calls for the main thread, one after the other."""

    def __init__(self) -> None:
        super().__init__(name="vpngen-objects", daemon=True)
        self.calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[tuple[object, BaseException | None]] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        while True:
            try:
                self.answers.put((self.calls.get()(), None))
            except BaseException as error:
                self.answers.put((None, error))
                del error


_helper: _Helper | None = None


def _hearing(call: Callable[[], T]) -> T:
    """What a call gives. The main thread has another make it, so that it hears signals while that takes."""
    global _helper
    if threading.current_thread() is not threading.main_thread():
        return call()
    helper, _helper = _helper or _Helper(), None
    helper.calls.put(call)
    value, error = helper.answers.get()  # after a signal the helper is left to its call
    _helper = helper
    try:
        if error is not None:
            raise error
        return cast(T, value)
    finally:
        del error  # else it and this frame hold each other


def _raise(place: Objects, name: str, error: BaseException | None) -> NoReturn:
    """Raise what an error of obstore stands for."""
    from obstore import exceptions

    said, where = str(error), f"{place}/{name}" if name else str(place)
    text = _plain(said)
    if isinstance(error, exceptions.AlreadyExistsError):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), where) from None
    if any(known in said for known in _NO_BUCKET):
        raise ArgumentError(
            "is in no bucket that is there: make that first, or mend the name", "store", str(place)
        ) from None
    if any(known in said for known in _METADATA):
        what = (
            "give them as storage options, or in the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
        raise MissingError(f"no credentials for {where!r}, neither given nor known to this machine: {what}") from None
    if isinstance(error, FileNotFoundError):
        answer = said.partition("\n\nDebug source:")[0].partition("404 Not Found:")[2].strip()
        if answer and not any(known in answer for known in _NOT_THERE):
            raise RunError(
                f"{where!r}: {text}: this seems to be the answer of a gateway, and not of the object store"
            ) from None
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), where) from None
    if "builder error" in said:
        remedy = "the endpoint is http, not https: give --storage-option allow_http=true, or AWS_ALLOW_HTTP=true, if that is meant"
        raise ArgumentError(f"cannot be reached, as {remedy}", "store", str(place)) from None
    if any(known in said for known in _SKEWED):
        what = (
            f"the clock of this machine is wrong, so the server refuses {where!r} ({text}); set it, for instance by NTP"
        )
        raise MissingError(what) from None
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError) or any(
        known in text for known in _DENIED
    ):
        what = "see that the credentials are there, and may do this: `vpngen doctor URL` tries it"
        raise MissingError(f"no permission for {where!r}: {text}; {what}") from None
    if "?delete" in said and "501" in said:
        text += "; this server removes objects one by one: make the store with disable_bulk_delete=True"
    again = "What was finished stays; give the same command again to go on"
    if "InvalidCertificate" in said:
        what = "name its issuer by root_certificate, or trust any by allow_invalid_certificates=true"
        raise MissingError(f"the certificate of the server of {where!r} is not trusted: {text}; {what}") from None
    if why := [why for known, why in _UNREACHED.items() if known in said]:
        raise UnreachableError(f"the server of {where!r} cannot be reached, {why[0]}: {text}. {again}") from None
    raise RunError(f"{where!r}: {text}. {again}") from None


def _is_unreached(said: str) -> bool:
    return any(known in said for known in _UNREACHED)


def _plain(text: str) -> str:
    """What an error of obstore says in a line, without the query of a URL, which may be a signature."""
    first, *source = text.split("\n\nDebug source:")
    found = (re.search(rf"<{tag}>([^<]*)</{tag}>", first) for tag in ("Code", "Message"))
    code = [match[1] for match in found if match]
    first = re.sub(r"\s*<(\?xml|html|error|!doctype).*", "", first, flags=re.DOTALL | re.IGNORECASE)
    first = re.sub(r"//[^/@\s]*@", "//", re.sub(r"\?[^\s\"')]*", "", first)).strip().rstrip(":.")
    parts = [" ".join(first.split())[:300], *(text.rstrip(".") for text in code)]
    if source and "InvalidContentType" in source[0]:
        parts.append("the server seems to speak http, not https: mend the endpoint")
    return ": ".join(parts)


def place_of(where: Where, options: Mapping[str, str] | None = None, argument: str = "path") -> Place:
    """The place that a path, a URL or a store of obstore names.

    Args:
        where: which.
        options: of the store of a URL, by the names that obstore has for them, such as `endpoint` and `allow_http`; what is not
            given comes from the environment, such as AWS_ENDPOINT_URL.
        argument: the name of `where` in messages.

    Raises:
        ArgumentError: a URL of no known kind, or an option that its store does not have.
        MissingError: obstore is not installed.
    """
    if isinstance(where, Folder | Objects):
        return where
    if not isinstance(where, str | os.PathLike):
        return _given(where, argument)
    url = files.url_of(path := os.fspath(where))
    if url is None or url.lower().startswith("file:"):
        if options:
            given_up = f"(={', '.join(options)}) are of URLs of objects, and {path!r} is a folder"
            raise ArgumentError(given_up, "storage_options")
        return Folder(path if url is None else _local(url, argument))
    scheme, shown = url.partition("://")[0].lower(), re.split("[?#]", url)[0]
    if scheme not in SCHEMES:
        known = ", ".join(f"{s}://" for s in ("s3", "gs", "az", "file"))
        raise ArgumentError(f"is a URL of no kind that is known: {known}", argument, shown)
    if shown != url:
        raise ArgumentError("must not contain ? or #, which end the path of a URL", argument, shown)
    if "@" in shown.partition("://")[2].partition("/")[0]:
        how = "give them as options, or in the environment"
        raise ArgumentError(f"must have no user and password before its bucket; {how}", argument)
    given = dict(options or {})
    variables = tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith(("AWS_", "GOOGLE_", "AZURE_"))))
    made = functools.partial(_store, url, argument, json.dumps(given, sort_keys=True), variables)
    return Objects(shown.rstrip("/"), made(SILENCE), (url, given), made(None))


def _local(url: str, argument: str) -> str:
    """The path of a URL of a file. Raises ArgumentError."""
    parts = urllib.parse.urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or parts.query or parts.fragment:
        raise ArgumentError(
            "must be the URL of a path of this machine, with three slashes, such as file:///data/set.zarr",
            argument,
            url,
        )
    return urllib.parse.unquote(parts.path)


@functools.lru_cache(32)
def _store(
    url: str, argument: str, options: str, variables: tuple[tuple[str, str], ...], silence: str | None
) -> ObjectStore:
    """The store of a URL: one for each, as it keeps connections; `variables` of the environment say what options do not.

    With `silence` it gives up a request that is not answered in that time.
    """
    obstore = _obstore()
    given = json.loads(options)
    client: Any = {name: given.pop(name) for name in CLIENT_OPTIONS if name in given}
    cloud = {"s3": "AWS", "gs": "GOOGLE"}.get(url[:2].lower(), "AZURE")
    told = dict(variables)
    for name in CLIENT_OPTIONS:  # obstore looks for no variables where there are options
        if (variable := f"{cloud}_{name.upper()}") in told:
            client.setdefault(name, told[variable])
    client.setdefault("timeout", TIMEOUT)
    if silence is not None:
        client.setdefault("read_timeout", silence)
    retries: Any = {name: given.pop(name) for name in RETRY_OPTIONS if name in given}
    if url.lower().startswith("s3") and "AWS_DISABLE_BULK_DELETE" not in os.environ:
        given = {"disable_bulk_delete": "true"} | given  # several look-alikes have no such request
    endpoints = [
        given.get("endpoint"),
        given.get("aws_endpoint"),
        *(told.get(f"{cloud}_{n}") for n in ("ENDPOINT", "ENDPOINT_URL", "ENDPOINT_URL_S3")),
    ]
    if any(where is not None and not re.match("https?://.", where) for where in endpoints):
        raise ArgumentError(
            "must have an endpoint that begins with https:// or http://",
            "storage_options" if options != "{}" else argument,
        )
    try:
        made: ObjectStore = obstore.store.from_url(url, client_options=client, retry_config=_retry(retries), **given)
        return made
    except Exception as error:
        what = _plain(str(error))
        for value in (*given.values(), *client.values(), *retries.values()):
            what = what.replace(value, "...") if len(value) > 3 else what
        if options != "{}":
            raise ArgumentError(f"cannot be used for {url}: {what}", "storage_options") from None
        raise ArgumentError(f"cannot be used: {what}", argument, url) from None


def _retry(options: Mapping[str, str]) -> Any:
    """How often a request is sent again, by obstore's own usage where nothing is said. Raises ValueError."""
    made: dict[str, Any] = {}
    if "max_retries" in options:
        made["max_retries"] = int(options["max_retries"])
    if "retry_timeout" in options:
        made["retry_timeout"] = timedelta(seconds=float(options["retry_timeout"]))
    return made or None


def _given(store: Any, argument: str) -> Place:
    """The place of a store of obstore."""
    kind = type(store).__name__
    if kind not in KINDS or not type(store).__module__.startswith("obstore"):
        raise ArgumentError("must be a path, a URL, or a store of obstore", argument, store)
    if kind == "LocalStore":
        if store.prefix is None:
            raise ArgumentError("must have a prefix: the folder of the store", argument, store)
        return Folder(store.prefix)
    if kind == "MemoryStore":
        return Objects("memory://", store)
    bucket = getattr(store, "config", {}).get("bucket") or getattr(store, "config", {}).get("container_name", "")
    return Objects(f"{KINDS[kind]}://{bucket}/{store.prefix or ''}".rstrip("/"), store)


def _obstore() -> Any:
    """The package. Raises MissingError."""
    try:
        import obstore
        import obstore.store
    except ImportError:
        raise MissingError("object stores need obstore; install it with: pip install 'vpngen[objects]'") from None
    return obstore
