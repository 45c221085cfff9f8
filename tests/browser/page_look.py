"""What a person would see wrong on a page, by eye, by keyboard and by screen reader."""

from pathlib import Path

LOOK = Path(__file__).with_suffix(".js").read_text()
NEEDS_NAME = {
    "application", "button", "Canvas", "canvas", "checkbox", "combobox", "grid", "group", "image", "img", "link",
    "listbox", "meter", "progressbar", "option", "radio", "radiogroup", "region", "searchbox", "slider", "spinbutton",
    "switch", "tab", "textbox", "Video", "video",
}  # fmt: skip
"""Roles whose elements a screen reader announces by their names."""
FOCUS = """() => {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const look = () => {
    const style = getComputedStyle(one);
    const outline = style.outlineStyle === "none" ? "" : style.outlineWidth + style.outlineColor;
    return outline + ["boxShadow", "borderTopColor", "backgroundColor", "stroke", "strokeWidth", "fill", "clipPath",
      "textDecorationLine"].map(name => style[name]).join("; ");
  };
  const focused = look();
  one.blur();
  const isSeen = look() !== focused;
  one.focus({focusVisible: true});
  return [`${one.tagName.toLowerCase()}#${one.id} ${one.ariaLabel ?? one.textContent.trim().slice(0, 30)}`, isSeen];
}"""


def look_problems(page) -> list[str]:
    """Return what is wrong with the page as it is now: overlaps, cut text, contrast and targets (WCAG AA), no names."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
    return page.evaluate(LOOK) + unnamed_elements(page)


def unnamed_elements(page) -> list[str]:
    """Return the elements that a screen reader announces without a name, from Chromium's own accessibility tree."""
    session, found = page.context.new_cdp_session(page), []  # detaching it would end the emulation of print
    for node in session.send("Accessibility.getFullAXTree")["nodes"]:
        role, name = node.get("role", {}).get("value"), node.get("name", {}).get("value", "")
        if node["ignored"] or role not in NEEDS_NAME or str(name).strip():
            continue
        described = session.send("DOM.describeNode", {"backendNodeId": node["backendDOMNodeId"]})["node"]
        if described["nodeName"] in ("FIELDSET", "DETAILS"):
            continue
        found.append(
            f"{role} <{described['nodeName'].lower()} {' '.join(described.get('attributes', []))}> has no name"
        )
    return found


def tab_stops(page, at_most: int = 200) -> tuple[list[str], list[str]]:
    """Press Tab from the top of the page to its end; return what gets the focus, and of it what doesn't show it."""
    page.evaluate(
        "() => { const {body} = document; body.tabIndex = -1; body.focus(); body.removeAttribute('tabindex'); }"
    )
    stops, unseen = [], []
    for _ in range(at_most):
        page.keyboard.press("Tab")
        stop = page.evaluate(FOCUS)
        if stop is None:
            return stops, unseen
        stops.append(stop[0])
        if not stop[1]:
            unseen.append(stop[0])
    raise AssertionError(f"Tab doesn't leave the page: {stops[-3:]}")
