"""Places and boxes on an image as users write them."""

from vitreous.errors import InputError
from vitreous.explanation.images import Asked


def place(text: str | None) -> Asked | None:
    """A place "X,Y" in pixels as (y, x), down and across, or a box "X0,Y0,X1,Y1" as (y0, x0, y1, x1); None stays None.

    >>> place("320,180")
    (180.0, 320.0)
    >>> place("600,300,700,500")
    (300.0, 600.0, 500.0, 700.0)

    Raises:
        InputError: it isn't two numbers, or four that make a box.
    """
    if text is None:
        return None
    wrong = InputError(f"'{text}' is no place on an image: give X,Y such as 320,180, or a box X0,Y0,X1,Y1")
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        raise wrong from None
    if len(numbers) == 2:
        return numbers[1], numbers[0]
    if len(numbers) != 4:
        raise wrong
    left, top, right, bottom = numbers
    if not (left < right and top < bottom):
        raise InputError(f"the box '{text}' holds nothing: x1 must be above x0 and y1 above y0 in X0,Y0,X1,Y1")
    return top, left, bottom, right


def swapped(numbers: Asked) -> Asked:
    """A place or box with down and across exchanged: (y, x) for (x, y), and back."""
    if len(numbers) == 2:
        return numbers[1], numbers[0]
    return numbers[1], numbers[0], numbers[3], numbers[2]


def middle(numbers: Asked) -> tuple[float, float]:
    """The place itself, or the middle of the box."""
    if len(numbers) == 2:
        return numbers
    return (numbers[0] + numbers[2]) / 2, (numbers[1] + numbers[3]) / 2
