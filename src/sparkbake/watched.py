"""Tell how far a blob is that is being sent."""

from collections.abc import Callable
from typing import IO

_SAY_EVERY_S = 10.0


class Watched:
    """A blob that is being sent: tells every few seconds how far it is."""

    def __init__(
        self, file: IO[bytes], size_bytes: int, name: str, say: Callable[[str], None], now: Callable[[], float]
    ) -> None:
        self._file = file
        self._size_bytes = size_bytes
        self._name = name
        self._say = say
        self._now = now
        self._sent = 0
        self._began = self._told = now()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._sent += len(data)
        now = self._now()
        if now - self._told >= _SAY_EVERY_S:
            self._told = now
            rate = self._sent / 1e6 / (now - self._began)
            self._say(f"{self._name}: {100 * self._sent / self._size_bytes:.0f} %, {rate:.1f} MB/s")
        if not data:
            self._file.close()
        return data
