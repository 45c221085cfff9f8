"""The colors that all drawings share: dark ink on white paper, one cool and one warm accent."""

PAPER = "#ffffff"
HAIRLINE = "#dde1e8"
MUTED = "#667085"
INK = "#1d2433"
CORRECT = "#15803d"
WRONG = "#c2362b"
COOL = "#2c5fb8"
WARM = "#d9622b"
LABEL_PAPER = "#11151f"
LABEL_INK = "#ffffff"
LABEL_MUTED = "#d3d8e2"

HUES = (COOL, WARM, "#15803d", "#7a4fb5", "#0e93a6", "#c43d83", "#b98900")
