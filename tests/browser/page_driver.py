"""Chromium for the tests of pages, and pages in it whose every request and error is watched."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
from chromium import find_chromium

ABSENT = "no Chromium: `make chromium` installs it"
"""Why the tests of pages are skipped; the summary of the tests counts them."""
FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""A camera that gives a moving figure, and that pages may use without being asked."""
DROP = """
([bytes, name, type, event]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(bytes)], name, {type}));
  const init = {bubbles: true, cancelable: true};
  dispatchEvent(event === "paste" ? new ClipboardEvent("paste", {...init, clipboardData: transfer})
    : new DragEvent(event, {...init, dataTransfer: transfer}));
}
"""


@contextlib.contextmanager
def launched_chromium() -> Iterator[object]:
    """A headless Chromium that Playwright drives; skips the test where either is absent."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip(ABSENT)
    path = find_chromium()
    if path is None:
        pytest.skip(ABSENT)
    with sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=path, args=["--no-sandbox", *FAKE_CAMERA])
        yield made
        made.close()


@contextlib.contextmanager
def watched_pages(browser, origin: str, expected: str = "status of 404") -> Iterator[Callable[..., object]]:
    """A function that opens pages, each with cookies of its own; at the end nothing may have gone wrong.

    What goes wrong are errors of scripts, errors in the console, and requests to anywhere but the page's own origin.
    The console reports a request that fails, and 404 is the answer to a broken link: such lines are `expected`.
    """
    contexts, problems = [], []

    def is_problem(line):
        return line.type == "error" and expected not in line.text

    def open_page(width=1280, height=800, theme="dark", fragment="", **options):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme,
            **({"permissions": ["clipboard-read", "clipboard-write"]} | options),
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: problems.append(line.text) if is_problem(line) else None)
        page.on("request", lambda one: one.url.startswith((origin, "data:", "blob:")) or problems.append(one.url))
        page.goto(origin + fragment)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems, "\n".join(problems)


def drop_file(page, data: bytes, name: str = "photo.png", kind: str = "image/png", event: str = "drop") -> None:
    """Drop a file on the page, or with `event` "paste" paste it."""
    page.evaluate(DROP, [list(data), name, kind, event])


def wait_for_text(page, element: str, text: str) -> None:
    """Wait by asking again: the page's policy lets no script poll inside it."""
    from playwright.sync_api import expect

    expect(page.locator(element)).to_contain_text(text, timeout=30_000)
