"""Data sets that mixed-model texts use, with their factor levels in the order R gives them.

``names()`` lists them, ``describe(name)`` tells a set's columns, units and source, and
``load(name)`` reads one into a pandas data frame.
"""

from lmmjax.datasets._load import describe as describe
from lmmjax.datasets._load import load as load
from lmmjax.datasets._load import names as names
