"""Minimisers behind one signature: an objective and a start in, a :class:`Solution` out."""

from lmmjax.optimize.newton import newton as newton
from lmmjax.optimize.solution import Solution as Solution
from lmmjax.optimize.solution import Status as Status
