#!/usr/bin/python3
"""In the place of vllm, in containers: loads until a file says that it has, answers, and is not well when told so."""

import http.server
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

FOLDER = Path(os.environ["STAND_IN"])


def say(text: str) -> None:
    sys.stdout.write(f"stand-in: {text}\n")
    sys.stdout.flush()


def end(_number: int, _frame: FrameType | None) -> NoReturn:
    say("bye")
    sys.exit(7)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503 if (FOLDER / "sick").exists() else 200)
        self.end_headers()


signal.signal(signal.SIGTERM, end)
say(f"HOME={os.environ.get('HOME')} USER={os.environ.get('USER')} uid={os.getuid()}")
while not (FOLDER / "loaded").exists():
    time.sleep(0.1)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
