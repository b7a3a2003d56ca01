"""What the terms of a formula stand for: R's algebra of ``+ - : * / ^``.

A term is the set of variables that it multiplies, kept as the bits of an integer in the order in
which the formula first names them; the intercept is the empty set. Source: Chambers & Hastie
(1992), Statistical Models in S, section 2.4.1, after Wilkinson & Rogers (1973), Appl. Statist. 22,
392-399.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .expressions import Name, Node, quote

#: Terms beyond which a formula is a mistake, or is meant to take all memory.
MAX_TERMS = 5_000

Masks = tuple[int, ...]


class TooManyTerms(Exception):
    """A product that stands for more terms than anyone means."""


@dataclass(frozen=True)
class Factor:
    """A variable or an expression that terms multiply.

    Attributes
    ----------
    name : str
        As tables write it: ``"x"``, ``"a b"``, ``"log(x)"``.
    source : str
        As formulas write it: ``"x"``, ``"`a b`"``, ``"log(x)"``.
    node : Node
        What it is.
    """

    name: str
    source: str
    node: Node

    @classmethod
    def of(cls, node: Node) -> "Factor":
        """The factor that a node is."""
        if isinstance(node, Name):
            return cls(node.name, quote(node.name), node)
        text = str(node)
        is_call = type(node).__name__ == "Call"
        return cls(text, text if is_call else f"{{{text}}}", node)


@dataclass(frozen=True)
class Terms:
    """Terms in R's order: those of one factor, of two, ..., each in the order of the formula.

    Attributes
    ----------
    intercept : bool
    terms : tuple of tuple of Factor
        The intercept left out.
    """

    intercept: bool
    terms: tuple[tuple[Factor, ...], ...]


def _distinct(masks: Iterable[int]) -> Masks:
    found: dict[int, None] = {}
    for mask in masks:
        found[mask] = None
        if len(found) > MAX_TERMS:
            raise TooManyTerms(
                f"this stands for more than {MAX_TERMS} terms: write out those that are meant"
            )
    return tuple(found)


def cross(left: Masks, right: Masks) -> Masks:
    """``left:right``."""
    return _distinct(a | b for a in left for b in right)


def product(left: Masks, right: Masks) -> Masks:
    """``left * right``."""
    return _distinct((*left, *right, *cross(left, right)))


def nest(left: Masks, right: Masks) -> Masks:
    """``left / right``: right within every combination of left's variables."""
    whole = 0
    for mask in left:
        whole |= mask
    return _distinct((*left, *cross((whole,), right)))


def power(masks: Masks, exponent: int) -> Masks:
    """``(...)^exponent``: all products of up to so many."""
    found = masks
    for _ in range(exponent - 1):
        larger = _distinct((*found, *cross(found, masks)))
        if len(larger) == len(found):
            # Every product is there already.
            break
        found = larger
    return found


def added(pieces: Iterable[tuple[str, Masks, bool]]) -> Masks:
    """Signed terms one after the other; each piece is (sign, terms, whether it is a number)."""
    found: dict[int, None] = {}
    for sign, masks, is_number in pieces:
        if is_number and not masks:
            # `+ 0` takes the intercept away, `- 0` puts it there.
            sign, masks = ("-" if sign == "+" else "+"), (0,)
        for mask in masks:
            if sign == "-":
                found.pop(mask, None)
            else:
                found[mask] = None
    return _distinct(found)


def collect(pieces: Sequence[tuple[str, Masks, bool]], factors: Sequence[Factor]) -> Terms:
    """Terms of a whole formula, which has an intercept unless it is taken away."""
    masks = added([("+", (0,), True), *pieces])
    ordered = sorted((m for m in masks if m), key=lambda m: m.bit_count())
    return Terms(
        0 in masks,
        tuple(
            tuple(factor for at, factor in enumerate(factors) if mask >> at & 1) for mask in ordered
        ),
    )
