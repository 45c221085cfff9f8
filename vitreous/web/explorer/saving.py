"""The routes by which the page saves what it shows: the fingerprint of a model, the page of a saved view."""

import base64
import hashlib
import re
from functools import cache, partial

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from vitreous.web.explorer.served_models import ServedModels
from vitreous.web.page_files import PAGES

IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w.]+)";$', re.MULTILINE)
EXPORT = re.compile(r"^export ((?:async )?function|class|const) (\w+)", re.MULTILINE)
MARK = re.compile(r"\{\{[a-z]+\}\}")


class SavingApi:
    """Handles what the page asks for when something is saved."""

    def __init__(self, models: ServedModels) -> None:
        self.models, self._hashing = models, CapacityLimiter(1)

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/api/fingerprints/{weights}", self.fingerprint, methods=["GET"]),
            Route("/api/saved-view", self.saved_view, methods=["GET"]),
        ]

    async def fingerprint(self, request: Request) -> Response:
        """What identifies the weights that have made a result."""
        work = partial(self.models.fingerprint, request.path_params["weights"])
        return JSONResponse({"fingerprint": await to_thread.run_sync(work, limiter=self._hashing)})

    async def saved_view(self, request: Request) -> Response:
        """The page of a view that is saved as one file."""
        return PlainTextResponse(saved_view_page())


@cache
def saved_view_page() -> str:
    """Return the HTML of a view that is saved as one file, with the marks that the page replaces, such as {{title}}.

    Its style and its script, the modules of saved_view.js, are inside, and its policy allows these two by their digests
    and nothing else.
    """
    style = "".join((PAGES / name).read_text("utf-8") for name in ("explorer.css", "saved_view.css"))
    script = bundle_modules("saved_view.js")
    page = (PAGES / "saved_view.html").read_text("utf-8")
    assert not MARK.search(style + script), "style and script may not look like a mark: the page would replace it"
    assert not re.search(r"</(script|style)|<!--", style + script), "style and script may not end their element"
    parts = {"style": style, "script": script, "stylehash": digest_source(style), "scripthash": digest_source(script)}
    return MARK.sub(lambda mark: parts.get(mark[0].strip("{}"), mark[0]), page)


def digest_source(text: str) -> str:
    """Return the digest of a style or script as a Content-Security-Policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def bundle_modules(entry: str) -> str:
    """Return one script that does what a module of the page and its imports do.

    Each module becomes a function that returns what it exports. Modules import with `import {a, b as c} from "./x.js";`
    and export functions, classes and constants where they are declared.
    """
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in done:
            return
        source = (PAGES / name).read_text("utf-8")
        for _, imported in IMPORT.findall(source):
            add(imported)
        exported = [found[1] for found in EXPORT.findall(source)]
        body = IMPORT.sub(lambda one: f'const {{{one[1].replace(" as ", ": ")}}} = modules["{one[2]}"];', source)
        body = EXPORT.sub(r"\1 \2", body)
        assert not re.search(r"^(import|export)\b", body, re.MULTILINE), f"{name} has another form of import or export"
        done[name] = f'modules["{name}"] = (() => {{\n{body}return {{{", ".join(exported)}}};\n}})();\n'

    add(entry)
    return f'"use strict";\nconst modules = {{}};\n{"".join(done.values())}'
