"""The files of the pages, which lie beside this module. Nothing is built, and nothing is loaded from elsewhere."""

from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles

PAGES = Path(__file__).with_name("pages")


class PageFiles(StaticFiles):
    """The files of the page: a browser asks each time whether they have changed, and gets a short no."""

    def file_response(self, *arguments: object, **keywords: object) -> Response:
        """Respond with a file, or with 304."""
        response = super().file_response(*arguments, **keywords)  # ty: ignore[invalid-argument-type]
        response.headers["Cache-Control"] = "no-cache"
        return response
