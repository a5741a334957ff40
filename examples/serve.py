"""Classify images over HTTP with an exported network, on many threads. Needs numpy, Pillow and harp; no torch.

python examples/serve.py net.harp --port 8000
curl --data-binary @photo.jpg http://127.0.0.1:8000
"""

import argparse
import json
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import harp.runtime

MOST_BYTES = 16 * 2**20


class Handler(BaseHTTPRequestHandler):
    """One thread per request. They share one session, which may be called from any thread."""

    session: harp.runtime.Session

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        if not 0 < size <= MOST_BYTES:
            return self.answer(413, {"error": f"{size} bytes: expected an image of at most {MOST_BYTES:,}"})
        with tempfile.NamedTemporaryFile(suffix=".image") as file:
            file.write(self.rfile.read(size))
            file.flush()
            try:
                found = self.session.classify([file.name])[0]
            except ValueError:
                return self.answer(400, {"error": "this is no image"})
        self.answer(200, {"label": found.label, "name": found.name, "logits": found.logits.tolist()})

    def answer(self, status: int, value: dict) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing for every request."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", type=Path, help="a file that `harp export` wrote")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    asked = parser.parse_args()
    # One CPU per call: requests run beside each other. Without tuning, equal images get equal bits.
    Handler.session = harp.runtime.load(asked.net, threads=1, autotune=False)
    server = ThreadingHTTPServer(("127.0.0.1", asked.port), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
