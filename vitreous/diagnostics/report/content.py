"""What a report shows: sections of charts, tables, images and findings, as the template draws them."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class DataTable:
    """A table; the first cell of each row is its heading."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_folded: bool = False
    """Whether it is opened by a click."""


@dataclass(frozen=True)
class Chart:
    """A chart, and the table with its numbers behind it.

    Attributes:
        svg: an SVG element; every text in it is escaped.
        note: one line below the title.
        legend: style and name of each series, if there are several.
    """

    svg: str
    title: str
    note: str
    legend: tuple[tuple[str, str], ...]
    table: DataTable


@dataclass(frozen=True)
class ChartGrid:
    """Charts side by side."""

    kind: ClassVar[str] = "charts"
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class MatrixCell:
    """A cell of a matrix: its text, and the step of its color, 0 to 10; `is_diagonal` chooses the hue."""

    text: str
    level: int
    is_diagonal: bool


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: rows are true classes, columns predicted ones.

    Attributes:
        names: of the rows.
        short_names: of the columns, which are upright and have less room.
    """

    kind: ClassVar[str] = "matrix"
    caption: str
    names: tuple[str, ...]
    short_names: tuple[str, ...]
    rows: tuple[tuple[MatrixCell, ...], ...]


@dataclass(frozen=True)
class EncodedImage:
    """An image inside the page."""

    uri: str
    """A data URI."""
    caption: str
    """Written below it."""
    description: str
    """Read in its place."""


@dataclass(frozen=True)
class Example:
    """An image of the data set, with maps, what was predicted and what is true."""

    images: tuple[EncodedImage, ...]
    lines: tuple[str, ...]
    level: str
    """correct, wrong or plain."""


@dataclass(frozen=True)
class Gallery:
    """Examples side by side."""

    kind: ClassVar[str] = "gallery"
    title: str
    note: str
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class FindingCard:
    """A finding of the doctor."""

    level: str
    topic: str
    message: str
    advice: str


@dataclass(frozen=True)
class CardGrid:
    """Findings side by side."""

    kind: ClassVar[str] = "cards"
    cards: tuple[FindingCard, ...]


@dataclass(frozen=True)
class Command:
    """A command to copy, and what it does."""

    kind: ClassVar[str] = "command"
    title: str
    text: str


@dataclass(frozen=True)
class Paragraph:
    """A sentence or two."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class WideImage:
    """An image as wide as the page."""

    kind: ClassVar[str] = "image"
    image: EncodedImage


SectionBlock = DataTable | ChartGrid | Matrix | Gallery | CardGrid | Command | Paragraph | WideImage


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Attributes:
        key: its address in the page.
        note: how its figures were got.
        missing: why it is empty and how to fill it; empty if there are blocks.
    """

    key: str
    title: str
    note: str = ""
    blocks: tuple[SectionBlock, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class Headline:
    """A figure at the head of the page, with its interval and where it is from."""

    label: str
    value: str
    interval: str
    note: str


@dataclass(frozen=True)
class ReportContent:
    """A whole report.

    Attributes:
        notes: what a reader has to know first, such as that the run is unfinished.
    """

    title: str
    subtitle: str
    headlines: tuple[Headline, ...]
    notes: tuple[str, ...]
    sections: tuple[Section, ...]
    footer: str
