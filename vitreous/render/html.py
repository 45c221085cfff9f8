"""One self-contained HTML page: a title, cards that say something, and sections with charts and images.

Nothing is loaded from elsewhere and nothing runs: styles are inside, images too, charts are SVG. What comes from
outside (names, words) is escaped here; only `Section.body` is taken as HTML.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image

from vitreous.render.theme import COOL, CORRECT, HAIRLINE, INK, MUTED, PAPER, WARM, WRONG

STYLE = f"""
:root {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: #f6f7f9; color: {INK}; line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; font-size: 16px; }}
main {{ max-width: 1080px; margin: 0 auto; padding: 40px 20px 64px; }}
h1 {{ font-size: clamp(24px, 4vw, 34px); line-height: 1.2; margin: 0 0 8px; overflow-wrap: anywhere; }}
h2 {{ font-size: 20px; margin: 48px 0 4px; }}
p {{ margin: 0 0 8px; max-width: 76ch; }}
.lead, .note {{ color: {MUTED}; }}
.note {{ font-size: 14px; }}
.cards {{ display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr));
  margin-top: 24px; }}
.card {{ background: {PAPER}; border: 1px solid {HAIRLINE}; border-left: 5px solid {HAIRLINE}; border-radius: 8px;
  padding: 14px 16px; }}
.card h3 {{ margin: 0 0 6px; font-size: 15px; display: flex; gap: 8px; align-items: baseline; }}
.card p {{ font-size: 15px; margin: 0; }}
.card p + p {{ margin-top: 8px; color: {MUTED}; }}
.card.fault {{ border-left-color: {WRONG}; grid-column: 1 / -1; }} .fault h3 {{ color: {WRONG}; }}
.card.note-card {{ border-left-color: {WARM}; }} .note-card h3 {{ color: {WARM}; }}
.card.well {{ border-left-color: {CORRECT}; }} .well h3 span {{ color: {CORRECT}; }}
.panel {{ background: {PAPER}; border: 1px solid {HAIRLINE}; border-radius: 8px; padding: 16px; margin-top: 12px; }}
.multiples {{ display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }}
.wide-multiples {{ display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 280px), 1fr)); }}
.images {{ display: grid; gap: 12px; grid-template-columns: repeat(4, 1fr); }}
@media (max-width: 640px) {{ .images {{ grid-template-columns: repeat(2, 1fr); }} main {{ padding-top: 24px; }} }}
figure {{ margin: 0; }}
figcaption {{ font-size: 13px; color: {MUTED}; margin-top: 4px; }}
img, svg {{ display: block; max-width: 100%; height: auto; }}
img {{ width: 100%; border-radius: 4px; }}
.scroll {{ overflow-x: auto; }} .scroll svg {{ max-width: none; }}
svg text {{ font-family: inherit; fill: {MUTED}; font-size: 12px; }}
a {{ color: {COOL}; }}
"""
MARKS = {"fault": ("✗", "fault"), "note": ("!", "note-card"), "well": ("✓", "well"), "unknown": ("?", "")}


@dataclass(frozen=True)
class Card:
    """One thing said: a heading, what was found, what follows from it, and how grave it is (a key of `MARKS`)."""

    heading: str
    words: str
    meaning: str = ""
    level: str = "well"


@dataclass(frozen=True)
class Section:
    """A heading, a few words on how to read it, and HTML."""

    heading: str
    words: str
    body: str


def page(title: str, lead: str, cards: Sequence[Card], sections: Sequence[Section]) -> str:
    """The whole page as HTML."""
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
    )
    body = [f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>']
    body.append(f'<div class="cards">{"".join(map(card_html, cards))}</div>')
    body += [
        f"<section><h2>{escape(one.heading)}</h2><p class='note'>{escape(one.words)}</p>{one.body}</section>"
        for one in sections
    ]
    return f"{head}<body><main>{''.join(body)}</main></body></html>\n"


def card_html(card: Card) -> str:
    """One card."""
    mark, kind = MARKS[card.level]
    meaning = f"<p>{escape(card.meaning)}</p>" if card.meaning else ""
    heading = f"<h3><span>{mark}</span>{escape(card.heading)}</h3>"
    return f'<div class="card {kind}">{heading}<p>{escape(card.words)}</p>{meaning}</div>'


def panel(content: str, kind: str = "") -> str:
    """HTML on a white panel; `kind` is how it is laid out: "multiples", "wide-multiples", "images" or "scroll"."""
    return f'<div class="panel"><div class="{kind}">{content}</div></div>'


def figure(content: str, caption: str) -> str:
    """An image or chart with words under it."""
    return f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def img_tag(image: Image.Image, words: str) -> str:
    """An image inside the page, as PNG; `words` are for those who can't see it."""
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    return f'<img alt="{escape(words)}" src="data:image/png;base64,{data}">'
