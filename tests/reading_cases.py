"""The fits of tests/data/make_reading.R, as lmmjax writes them: data, and arguments of lmm()."""

import json
from pathlib import Path

import numpy as np

import lmmjax as lj

R = json.loads((Path(__file__).parent / "data" / "reading.json").read_text())

ARGUMENTS = {
    "weights": ("cake", "angle ~ recipe + temperature + (1 | recipe:replicate)", {"weights": "w"}),
    "offset": (
        "sleepstudy",
        "Reaction ~ Days + (1 + Days | Subject)",
        {"offset": "shift", "method": "ML"},
    ),
    "parts": ("cake", "angle ~ temp + (1 + temp || recipe:replicate) + (1 | replicate)", {}),
    "many": ("cake", "angle ~ recipe * temperature + (1 + temp | replicate)", {}),
    "crossed": ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", {"method": "ML"}),
    "no_fixed_partner": ("sleepstudy", "Reaction ~ Days + (0 + I(Days^2) | Subject)", {}),
    "independent": ("sleepstudy", "Reaction ~ Days + (1 + Days || Subject)", {}),
}


def data(name):
    """A data set with the columns that the R script adds."""
    frame = lj.datasets.load(name)
    if name == "cake":
        frame["w"] = np.tile([1.0, 2.0, 0.5], 90)
        frame.loc[2, "angle"] = None
    if name == "sleepstudy":
        frame["shift"] = np.sqrt(np.arange(1.0, 181.0))
    return frame
