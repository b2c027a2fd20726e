"""Numbers as people type them."""


def number_within(text: str, least: float, most: float) -> float | None:
    """The number that a text says, if it lies from `least` to `most`; None for any other text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if least <= number <= most else None
