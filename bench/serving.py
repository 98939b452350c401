"""A real OpenAI-compatible server on loopback, and a proxy before it that can be told to misbehave."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# What the proxy does with a request: pass it on, or a status with headers, or "hang" for longer than a client waits.
Fault = Callable[[int], tuple[int, dict[str, str]] | str | None]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Server:
    """`transformers serve` with one model."""

    def __init__(self, model: Path, port: int | None = None):
        self.port = port or free_port()
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
        program = Path(sys.executable).parent / "transformers"
        words = [program, "serve", model, "--port", str(self.port), "--host", "127.0.0.1", "--device", "cpu"]
        self.process = subprocess.Popen(
            list(map(str, words)), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Proxy:
    """Passes requests on to `target` unless `fault`, called with the request's number, says otherwise.

    `asked` holds what was asked, in order of arrival; `most` is how many requests were under way at once.
    """

    def __init__(self, target: str, fault: Fault = lambda number: None):
        self.target, self.fault = target, fault
        self.asked: list[dict] = []
        self.times: list[float] = []
        self.under_way = self.most = 0
        self.lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with proxy.lock:
                    number = len(proxy.asked)
                    proxy.asked.append({**json.loads(body), "key": self.headers.get("authorization")})
                    proxy.times.append(time.monotonic())
                    proxy.under_way += 1
                    proxy.most = max(proxy.most, proxy.under_way)
                try:
                    self._reply(*proxy.reply(number, self.path, body))
                except (BrokenPipeError, ConnectionError):
                    self.close_connection = True  # the client was killed, or is tired of waiting
                finally:
                    with proxy.lock:
                        proxy.under_way -= 1

            def _reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        # How often it looks whether it is to end, in seconds: half of one, as by itself, would be most of a quick test.
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1"

    def reply(self, number: int, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        found = self.fault(number)
        if found == "hang":
            time.sleep(4)
            return 504, {}, b"{}"
        if isinstance(found, bytes):
            return 200, {"content-type": "application/json"}, found
        if isinstance(found, tuple):
            status, headers = found
            return status, headers, b'{"error": {"message": "told to fail"}}'
        request = urllib.request.Request(
            self.target.removesuffix("/v1") + path, body, {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, {"content-type": "application/json"}, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, {"content-type": "application/json"}, error.read()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
