"""Comparing printed text with what it was when it was written down."""

import re

NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?", re.IGNORECASE)


def same_print(expected, found, rtol=2e-3, atol=2e-3):
    """Whether two texts agree: words exactly, spacing not at all, numbers but for rounding."""

    def words(text):
        # Without spaces: how wide a column is depends on the digits in it.
        return "".join(NUMBER.sub("#", text).split())

    if words(expected) != words(found):
        return False
    pairs = zip(NUMBER.findall(expected), NUMBER.findall(found), strict=True)
    return all(abs(float(a) - float(b)) <= atol + rtol * abs(float(a)) for a, b in pairs)
