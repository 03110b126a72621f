"""Servers on loopback that benchmarks and tests start: S3 by packages of others, and a wire that takes its time.

python -m benchmarks.servers PORT TO MILLISECONDS       everything that comes to PORT goes to port TO, that much later
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

LOCALBUCKET = "import localbucket, socketserver; socketserver.StreamRequestHandler.disable_nagle_algorithm = True; localbucket.main()"
"""Without the 40 ms that small answers wait for each other."""
MOTO = "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])"
BUCKET = "sets"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@contextlib.contextmanager
def server(kind: str, folder: Path) -> Iterator[int]:
    """An S3 server, `localbucket` or `moto`, with the bucket `sets`: its port. What localbucket holds lies in `folder`."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = {
        "localbucket": ["-c", LOCALBUCKET, "--port", str(port), str(folder)],
        "moto": ["-c", MOTO, str(port)],
    }[kind]
    said = folder.with_suffix(".log")
    with open(said, "wb") as log, running([sys.executable, *command], log):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(request, timeout=5)
                break
            time.sleep(0.1)
        else:
            raise RuntimeError(f"{kind} does not answer: {said.read_text()}")
        yield port


@contextlib.contextmanager
def running(command: list[str], log: object = subprocess.DEVNULL) -> Iterator[None]:
    """A process that ends with the block."""
    process = subprocess.Popen(command, stdout=log, stderr=log)  # type: ignore[call-overload]
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def slow(to: int, milliseconds: float) -> Iterator[int]:
    """A port that is another, each request of which arrives later."""
    port = free_port()
    with running([sys.executable, "-m", "benchmarks.servers", str(port), str(to), str(milliseconds)]):
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
                break
            time.sleep(0.05)
        yield port


async def _serve(port: int, to: int, seconds: float) -> None:
    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection("127.0.0.1", to, limit=2**22)
            await asyncio.gather(passed(reader, back, seconds), passed(there, writer, 0.0))

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late: float) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(2**20):
                if late:
                    await asyncio.sleep(late)
                writer.write(data)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(joined, "127.0.0.1", port, limit=2**22) as made:
        await made.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000))
