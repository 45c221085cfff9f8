"""Chromium for the tests of pages, and pages in it whose every request and error is watched."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator

import pytest
from chromium import find_chromium

ABSENT = "no Chromium: `make chromium` installs it"
"""Why the tests of pages are skipped; the summary of the tests counts them."""
FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""A camera that gives a moving figure, and that pages may use without being asked."""
PATIENCE = 30
"""Seconds after which what was expected of a page counts as missing."""
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


def expect(target):
    """Playwright's `expect`: asks again until a page or a part of it is as it should be, or its time is over.

    A page changes after a click, not in it: toggles, redraws and answers of the server come when the browser gets to
    them. So tests assert nothing about a page that they have read only once.
    """
    from playwright.sync_api import expect as expect_soon

    expect_soon.set_options(timeout=1000 * PATIENCE)
    return expect_soon(target)


def wait_for_text(page, element: str, text: str) -> None:
    """Wait until a part of the page contains this text."""
    expect(page.locator(element)).to_contain_text(text)


def wait_until(page, question: Callable[[], object]) -> None:
    """Wait until this is true of the page, by asking again: the page's policy lets no script poll inside it."""
    end = time.monotonic() + PATIENCE
    while not question():
        assert time.monotonic() < end, "what the test waits for did not come"
        page.wait_for_timeout(20)


def settled(page, read: Callable[[], object], quiet_ms: int = 200) -> object:
    """Read something of the page again until it stays the same; return it."""
    values = [read()]

    def stays():
        page.wait_for_timeout(quiet_ms)
        values.append(read())
        return values[-1] == values[-2]

    wait_until(page, stays)
    return values[-1]


def starting(text: str) -> re.Pattern[str]:
    """Return the pattern of texts that start so."""
    return re.compile("^" + re.escape(text))


def ending(text: str) -> re.Pattern[str]:
    """Return the pattern of texts that end so."""
    return re.compile(re.escape(text) + "$")


def containing(text: str) -> re.Pattern[str]:
    """Return the pattern of addresses with this part."""
    return re.compile(re.escape(text))
