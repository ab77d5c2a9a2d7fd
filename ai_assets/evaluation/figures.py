"""Numbers as sentences have them; records keep them exact."""


def figure(value: float, limit: float | None = None) -> str:
    """Three significant digits, or as many as it takes to be on the side of the limit that the value is on."""
    for digits in range(3, 18):
        said = f"{value:.{digits}g}"
        shown = float(said)
        same_side = limit is None or ((shown < limit), (shown > limit)) == ((value < limit), (value > limit))
        if same_side and "e+" not in said:
            return said
    return f"{value:g}"
