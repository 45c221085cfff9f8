"""What tests do on the explorer's page, and read from it."""

from page_driver import drop_file


def drop(page, data: bytes, name: str = "photo.png", event: str = "drop") -> None:
    """Drop an image, or with `event` "paste" paste it, and wait until everything about it is drawn."""
    drop_file(page, data, name, event=event)
    page.wait_for_selector("#plots:not([hidden])")


def caption(page) -> str:
    """Return the map's caption."""
    return page.locator("#caption").inner_text()


def pixels(page, canvas: str = "added") -> list[int]:
    """Return some of a canvas's pixels."""
    code = "id => [...document.getElementById(id).getContext('2d').getImageData(0, 0, 16, 16).data]"
    return page.evaluate(code, canvas)


def middle_of_patch(page, row: int, column: int, grid: int = 4) -> tuple[float, float]:
    """Return where the middle of a patch is on the screen, in a grid of as many rows as columns."""
    box = page.locator("#frame").bounding_box()
    return box["x"] + (column + 0.5) / grid * box["width"], box["y"] + (row + 0.5) / grid * box["height"]


def python_lines(page) -> str:
    """Return the lines of Python that the page shows for its map."""
    page.click("#show-python")
    lines = page.locator("#python").text_content()
    page.click("#close-python")
    return lines
