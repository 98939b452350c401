"""The routes of the page. All of them read, but for `talk`, which lets a model answer, and `enter`, which takes a
token; none writes a file.
"""

import asyncio
import contextlib
import json
import re
import shlex
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from apo_soup.data.sources.rows import row_number
from apo_soup.errors import UserError, first_line
from apo_soup.pages.render import rendered
from apo_soup.report.run_files import read_run
from apo_soup.report.training import training_section
from apo_soup.resources import template_source
from apo_soup.runs.machine_paths import without_paths
from apo_soup.ui.address import Address
from apo_soup.ui.chat_models import ChatModel, chat_models
from apo_soup.ui.guard import REPORT_POLICY, Guard, cookie_name, is_token, path_below
from apo_soup.ui.refused_rows import REFUSED_A_PAGE, refused_page, training_names
from apo_soup.ui.rows import ROWS_A_PAGE, Opened, RowViews
from apo_soup.ui.stage_folders import run_of_recipe, stage_folders, tracker_commands
from apo_soup.ui.state_board import AskStates, StateBoard
from apo_soup.ui.talk import AskedAnswer, Talker

_STYLES = (
    "pages/colours.css",
    "pages/page.css",
    "pages/drawing.css",
    "report/report.css",
    "pages/rows.css",
    "ui/ui.css",
)
_SCRIPTS = ("home.js", "chat.js", "enter.js")
_MOST_BYTES = 4_000_000
_NUMBER = re.compile(r"[0-9]{1,12}")
# How long a stream says nothing before it shows that it is there.
_STILL_SECONDS = 1.0


@dataclass
class Site:
    """What the page shows: a recipe, how its files of rows are opened, and how its states are asked for.

    `closing` is set when the server ends; answers that are being written end with it.
    """

    recipe: Path
    opened: Opened
    ask_states: AskStates
    address: Address
    closing: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.rows = RowViews(self.recipe, self.opened)
        self.states = StateBoard(self.ask_states)
        self.talker = Talker(self.recipe)

    def home(self, request: Request) -> Response:
        """The first page: the stages, what is there of them, and who is at work."""
        folders = list(stage_folders(self.recipe))
        return self._page(request, "home", folders=folders)

    def state(self, request: Request) -> Response:
        """What `apo-soup why` says, as far as it is known by now."""
        return JSONResponse(self.states.look(request.query_params.get("again") == "1"))

    def first_rows(self, request: Request) -> Response:
        """To the rows of the first file that has some."""
        names = self.rows.files()
        if not names:
            return self._page(request, "empty", current="rows", title="Rows", told="No file of this recipe has rows.")
        return RedirectResponse(f"rows/{names[0]}/0", 302)

    def rows_page(self, request: Request) -> Response:
        """Rows of a source."""
        name, number = request.path_params["name"], _whole(request.path_params["number"])
        first, whole = _whole(request.query_params.get("from", "0")), request.query_params.get("whole") == "1"
        shown = self.rows.page(name, number, first, whole)
        if shown is None:
            raise HTTPException(404)
        return self._page(
            request,
            "rows",
            shown=shown,
            names=self.rows.files(),
            whole=whole,
            step=1 if whole else ROWS_A_PAGE,
            row_number=row_number,
            short=without_paths,
        )

    def refused_rows(self, request: Request) -> Response:
        """Rows that a preparation rejected or left out."""
        name, kind = request.path_params["name"], request.path_params["kind"]
        shown = refused_page(self.recipe, name, kind, _whole(request.query_params.get("from", "0")))
        if shown is None:
            raise HTTPException(404)
        names = training_names(self.recipe)
        return self._page(request, "refused", shown=shown, names=names, step=REFUSED_A_PAGE, short=without_paths)

    def first_refused(self, request: Request) -> Response:
        """To the rejected rows of the first file that trains."""
        names = training_names(self.recipe)
        if not names:
            return self._page(
                request, "empty", current="refused", title="Rejected", told="No file of this recipe trains."
            )
        return RedirectResponse(f"refused/{names[0]}/rejected", 302)

    def chat(self, request: Request) -> Response:
        """Two checkpoints side by side."""
        models: list[ChatModel] = []
        problem = ""
        try:
            models = chat_models(self.recipe)
        except UserError as error:
            problem = str(error)
        there = [model.name for model in models if model.is_there]
        missing = [model.name for model in models if not model.is_there]
        return self._page(request, "chat", there=there, missing=missing, problem=problem)

    async def talk(self, request: Request) -> Response:
        """An answer as server-sent events."""
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return JSONResponse({"told": "expected JSON"}, 415)
        body = await _body(request)
        if body is None:
            return JSONResponse({"told": f"expected at most {_MOST_BYTES:,} bytes"}, 413)
        try:
            asked = AskedAnswer.of_json(body)
        except UserError as error:
            return JSONResponse({"told": str(error)}, 400)
        return StreamingResponse(
            self._events(asked), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )

    async def _events(self, asked: AskedAnswer) -> AsyncIterator[str]:
        loop, stopped = asyncio.get_running_loop(), threading.Event()
        events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

        def emit(event: dict[str, Any] | None) -> None:
            with contextlib.suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(events.put_nowait, event)

        def work() -> None:
            try:
                self.talker.answer(asked, emit, stopped)
            finally:
                emit(None)

        threading.Thread(target=work, daemon=True).start()
        try:
            while not self.closing.is_set():
                try:
                    event = await asyncio.wait_for(events.get(), _STILL_SECONDS)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if event is None:
                    return
                yield f"data: {json.dumps(event)}\n\n"
        finally:
            stopped.set()

    def report(self, request: Request) -> Response:
        """The report of the run, as it lies there."""
        run = run_of_recipe(self.recipe)
        # Whole, since a new one may be put in its place while it is sent.
        page = (run / "report.html").read_bytes() if run is not None and (run / "report.html").is_file() else None
        if page is None:
            command = f"apo-soup report {shlex.quote(str(self.recipe))}"
            told = f"There is no report yet. `{command}` writes it when something was evaluated."
            return self._page(request, "empty", current="report", title="Report", told=told)
        return HTMLResponse(page, headers={"Content-Security-Policy": REPORT_POLICY})

    def curves(self, request: Request) -> Response:
        """The curves of the trainings that are finished, and the command that shows a tracker's."""
        run = run_of_recipe(self.recipe)
        blocks: list[Any] = []
        problem = ""
        try:
            blocks = [*training_section(read_run(run)).blocks] if run is not None and run.is_dir() else []
        except UserError as error:
            problem = str(error)
        return self._page(request, "curves", blocks=blocks, problem=problem, commands=tracker_commands(self.recipe))

    async def enter(self, request: Request) -> Response:
        """Take a token: right, it becomes a cookie."""
        body = await _body(request)
        try:
            given = json.loads(body or b"{}")["token"]
        except (ValueError, LookupError, TypeError, RecursionError):
            given = ""
        if not self.address.token or not isinstance(given, str) or not is_token(given, self.address):
            return Response(status_code=403)
        answer = Response(status_code=204)
        answer.set_cookie(
            cookie_name(self.address), given, path=f"{self.address.prefix}/", httponly=True, samesite="strict"
        )
        return answer

    def static(self, request: Request) -> Response:
        """The styles and scripts of the page."""
        name = request.path_params["name"]
        if name == "ui.css":
            return Response("\n".join(map(template_source, _STYLES)), media_type="text/css")
        if name in _SCRIPTS:
            return Response(template_source(f"ui/{name}"), media_type="text/javascript")
        raise HTTPException(404)

    def missing(self, request: Request, error: Exception) -> Response:
        """A page for what is not there."""
        page = self._page(request, "empty", current="", title="Not here", told="There is nothing at this address.")
        return HTMLResponse(page.body, 404)

    def changed(self, request: Request, error: Exception) -> Response:
        """A page for a file that went, or cannot be read, between two looks at it."""
        why = without_paths(first_line(error))
        told = f"A file could not be read ({why}). If it is being written, load this page again."
        return HTMLResponse(self._page(request, "empty", current="", title="Not readable", told=told).body, 503)

    def _page(self, request: Request, kind: str, current: str = "", **values: Any) -> Response:
        depth = max(0, path_below(request.scope).count("/") - 1)
        name = self.recipe.resolve().name
        common = {
            "up": "../" * depth or "./",
            "current": current or kind,
            "recipe": name,
            "told_recipe": str(self.recipe),
        }
        return HTMLResponse(rendered(f"ui/{kind}.html.jinja", **common, **values))


def _whole(text: str) -> int:
    """A whole number of a request; raises HTTPException where it is none."""
    if not _NUMBER.fullmatch(text):
        raise HTTPException(404)
    return int(text)


async def _body(request: Request) -> bytes | None:
    """A request's body; None where it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            return None
    return bytes(body)


def guarded_app(site: Site) -> Guard:
    """The application, behind what guards it."""
    routes = [
        Route("/", site.home),
        Route("/states", site.state),
        Route("/rows", site.first_rows),
        Route("/rows/{name}/{number}", site.rows_page),
        Route("/refused", site.first_refused),
        Route("/refused/{name}/{kind}", site.refused_rows),
        Route("/chat", site.chat),
        Route("/talk", site.talk, methods=["POST"]),
        Route("/report", site.report),
        Route("/curves", site.curves),
        Route("/enter", site.enter, methods=["POST"]),
        Route("/static/{name}", site.static),
    ]
    app = Starlette(routes=routes, exception_handlers={404: site.missing, OSError: site.changed})
    app.router.redirect_slashes = False
    return Guard(app, site.address)
