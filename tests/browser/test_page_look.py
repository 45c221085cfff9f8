"""The checks of a page's look find what is wrong, and nothing in a page that is right."""

import pytest
from page_look import look_problems, tab_stops

RIGHT = """<!doctype html><html lang="en"><title>x</title>
<body style="background: #fff; margin: 0; font: 16px sans-serif">
<h1>A page</h1><label>Name <input style="border: 1px solid #555; height: 30px"></label>
<button style="height: 30px">Do</button>
<p style="width: 60px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap">a line with an ellipsis</p>
<div style="width: 50px; overflow: auto; white-space: nowrap">a line to scroll</div>"""


@pytest.fixture(scope="module")
def page(browser):
    made = browser.new_page(viewport={"width": 400, "height": 600}, color_scheme="light")
    yield made
    made.close()


def test_a_page_that_is_right_has_no_problems(page):
    page.set_content(RIGHT)
    assert look_problems(page) == []
    assert tab_stops(page) == (["input# ", "button# Do", "div# a line to scroll"], [])


@pytest.mark.parametrize(
    ("html", "words"),
    [
        ("<button style='height: 30px'>On</button><button style='margin-left: -9px'>Off</button>", "overlaps"),
        ("<button style='height: 15px; padding: 0'>Tiny</button>", "under 24"),
        ("<p style='width: 30px; overflow: hidden; white-space: nowrap'>a line that is cut</p>", "is cut by"),
        ("<button style='height: 30px; width: 30px; white-space: nowrap'>spills over</button>", "is cut by"),
        ("<p style='height: 12px; overflow: hidden'>one line and<br>another</p>", "is cut in height"),
        (f"<div style='white-space: nowrap'>{12 * 'a long line '}</div>", "leaves"),
        ("<div style='width: 500px'>wide</div>", "500 pixels wide, the window 400"),
        ("<p style='color: #888'>faint</p>", "contrast of 3.54, under 4.5"),
        ("<p style='color: #999; font-size: 30px'>large</p>", "contrast of 2.85, under 3"),
        ("<p style='background: rgb(0 0 0 / .5); color: #777'>on gray</p>", "under 4.5"),
        ("<select style='border: 1px solid #ccc; height: 30px' aria-label='Way'></select>", "edge of"),
        ("<button style='height: 30px; width: 30px'><svg></svg></button>", "button <button"),
        ("<canvas width='5' height='5' role='img'></canvas>", "has no name"),
        ("<img src='data:,'>", "has no name"),
        ("<div role='grid' tabindex='0' aria-label='Maps'>a map</div>", "is a grid without rows"),
    ],
    ids=lambda value: value if value[0] != "<" else "",
)  # fmt: skip
def test_each_fault_is_found(html, words, page):
    page.set_content(RIGHT + html)
    found = look_problems(page)
    assert any(words in one for one in found), found
    assert len(found) <= 2, found


def test_a_control_that_does_not_show_its_focus_is_found(page):
    page.set_content(RIGHT + "<style>button { outline: none !important }</style>")
    assert tab_stops(page)[1] == ["button# Do"]
