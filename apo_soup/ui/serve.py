"""`apo-soup ui RECIPE`: serve the page of a recipe until Ctrl-C."""

import contextlib
import logging
import socket
from types import FrameType

import uvicorn

from apo_soup.progress import tell
from apo_soup.ui.app import Site, guarded_app

# How long answers that are being written have to end.
_GRACE_SECONDS = 3


class _PageServer(uvicorn.Server):
    """Lets answers that are being written know that the server ends."""

    def __init__(self, config: uvicorn.Config, site: Site):
        super().__init__(config)
        self.site = site

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.site.closing.set()
        super().handle_exit(sig, frame)


def serve_page(site: Site, bound: socket.socket) -> None:
    """Serve until a signal ends it; Ctrl-C is its usual end."""
    # It logs no addresses that are asked for, and of itself only what goes wrong.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    config = uvicorn.Config(
        guarded_app(site),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    tell(f"stages, rows, chat and curves of {site.recipe}: {site.address.url} (Ctrl-C ends it)")
    with contextlib.suppress(KeyboardInterrupt):
        _PageServer(config, site).run(sockets=[bound])
    tell("ended")
