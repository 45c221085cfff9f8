"""Places on a picture as users write them."""

from vitreous.errors import InputError


def place(text: str | None) -> tuple[float, float] | None:
    """A place "X,Y" in pixels as (y, x), down and across; None stays None.

    >>> place("320,180")
    (180.0, 320.0)

    Raises:
        InputError: it isn't two numbers.
    """
    if text is None:
        return None
    try:
        x, y = (float(number) for number in text.split(","))
    except ValueError:
        raise InputError(f"'{text}' is no place on a picture: give two numbers as X,Y, such as 320,180") from None
    return y, x
