"""The data of the cases: shipped sets, the files in data/, and what the suites make of them."""

from pathlib import Path

import numpy as np
import pandas as pd

import lmmjax as lj

FILES = Path(__file__).parent / "data"
#: Columns that are names, not amounts, in the files (those of the suites are R factors).
FACTORS = {
    "Orthodont": ["Subject"],
    "ChickWeight": ["Chick", "Diet"],
    "dietox": ["Pig"],
    "carrots": ["Consumer", "Frequency", "Homesize", "Income", "Gender"],
    "ham": ["Consumer", "Product", "Information", "Gender"],
    "TVbo": ["Assessor", "Repeat", "Picture"],
    "pots": ["CO2", "chamber", "nutrients"],
    "outlier_group": ["Var2"],
    "cbpp": ["herd", "period"],
    "feedlot": ["herd"],
    "pigs": ["pen"],
    "warpbreaks": ["loom"],
    "sim_coef": ["var1", "var3"],
    "sim_lagoons": ["lagoon", "habitat"],
    "sim_nested": ["bird", "day"],
}
#: Orders of levels that are not alphabetical.
LEVELS = {
    ("feedlot", "diet"): ["Low", "Medium", "High"],
    ("pigs", "source"): ["fish", "soy", "skim"],
    ("warpbreaks", "tension"): ["L", "M", "H"],
    ("Orthodont", "Sex"): ["Male", "Female"],
}


def file(name):
    """A file of data/, its factors as text or categories."""
    frame = pd.read_csv(FILES / f"{name}.csv", dtype=dict.fromkeys(FACTORS.get(name, ()), str))
    for (file_name, column), levels in LEVELS.items():
        if file_name == name:
            frame[column] = pd.Categorical(frame[column], levels)
    return frame


def sleepstudy(**columns):
    """sleepstudy with further columns."""
    return lj.datasets.load("sleepstudy").assign(**columns)


def sleepstudy_missing(column, rows):
    frame = sleepstudy()
    frame[column] = frame[column].astype(float)
    frame.loc[rows, column] = np.nan
    return frame


def cake_cells(*empty):
    """Three temperatures of cake, less some cells of recipe and temperature."""
    frame = lj.datasets.load("cake")
    frame = frame[frame["temperature"].isin(["175", "185", "195"])]
    for recipe, temperature in empty:
        frame = frame[(frame["recipe"] != recipe) | (frame["temperature"] != temperature)]
    return frame.assign(temperature=frame["temperature"].astype(str))


def weighted_by_hand():
    """Ten rows with weights (MixedModels.jl, issue 194)."""
    a = "1.55945122 0.004391538 0.005554163 -0.173029772 4.586284429"
    a += " 0.259493671 -0.091735715 5.546487603 0.457734831 -0.030169602"
    b = "0.24520519 0.080624178 0.228083467 0.2471453 0.398994279"
    b += " 0.037213859 0.102144973 0.241380251 0.206570975 0.15980803"
    w1 = [20, 40, 35, 12, 29, 25, 65, 105, 30, 75]
    columns = {name: np.array(text.split(), float) for name, text in (("a", a), ("b", b))}
    return pd.DataFrame({**columns, "c": list("HFKPPPDMID"), "w1": w1})


def ten_rows():
    """Two factors and a grouping on ten rows (lmerTest, test_compare_sas.R)."""
    return pd.DataFrame(
        {
            "a": list("1112222212"),
            "b": list("1121222221"),
            "f": list("1212121212"),
            "y": [12, 14, 11, 20, 17, 23, 35, 46, 15, 16],
        }
    )


def fifteen_rows():
    """Three groups of unequal size (statsmodels, test_summary_col)."""
    y = [1.727, -1.037, 2.904, 3.569, 4.629, 5.736, 6.747, 7.020, 5.624, 10.155, 10.400]
    return pd.DataFrame(
        {
            "Y": [*y, 17.164, 17.276, 14.988, 14.453],
            "X": np.arange(1.0, 16.0),
            "IDS": [f"i{i}" for i in np.repeat([1, 2, 3], [5, 4, 6])],
        }
    )


def nested_components():
    """Correlated slopes in groups, and two nested components (statsmodels, test_vcomp_2)."""
    rng = np.random.RandomState(6241)
    n = 1600
    x = rng.normal(size=(n, 2))
    errors = np.zeros(n)
    z = rng.normal(size=(n, 2))
    errors += (np.kron(rng.normal(size=(n // 16, 2)), np.ones((16, 1))) * z).sum(1)
    errors += np.kron(2 * rng.normal(size=n // 4), np.ones(4))
    errors += np.kron(2 * rng.normal(size=n // 2), np.ones(2))
    errors += rng.normal(size=n)
    rows = np.arange(n)
    frame = pd.DataFrame({"y": x.sum(1) + errors, "x1": x[:, 0], "x2": x[:, 1]})
    return frame.assign(
        z1=z[:, 0],
        z2=z[:, 1],
        groups=[f"g{i}" for i in rows // 16],
        v1=[f"v{i}" for i in rows // 4],
        v2=[f"w{i}" for i in rows // 2],
    )


def slope_only():
    """A random slope without an intercept (statsmodels, test_vcomp_3)."""
    rng = np.random.RandomState(4279)
    x1 = rng.normal(size=400)
    slopes = np.kron(rng.normal(size=100), np.ones(4)) * x1
    y = slopes + rng.normal(size=400)
    return pd.DataFrame({"y": y, "x1": x1, "g": [f"g{i}" for i in np.arange(400) // 4]})


def three_classes():
    """Noise in three groups, whose variance is zero (statsmodels, test_singular)."""
    data = np.random.RandomState(3423).randn(100, 2)
    frame = pd.DataFrame(data, columns=["Y", "X"])
    return frame.assign(g=[f"c{i % 3}" for i in range(100)])


def pairs_missing():
    rng = np.random.RandomState(23423)
    frame = pd.DataFrame(rng.normal(size=(100, 6)), columns=["y", "g", "x1", "z1", "c1", "c2"])
    effects = np.kron(rng.normal(size=(50, 4)), np.ones((2, 1)))
    frame["y"] = effects[:, 0] + effects[:, 1] * frame["z1"] + effects[:, 2] * frame["c1"]
    frame["y"] += effects[:, 3] * frame["c2"] + rng.normal(size=100)
    group = np.array([f"g{i}" for i in np.arange(100) // 2], object)
    group[2] = None
    frame["g"] = group
    for row, column in ((1, "y"), (3, "x1"), (4, "z1"), (5, "c1"), (6, "c2")):
        frame.loc[row, column] = np.nan
    return frame


DERIVED = {
    "sleepstudy, Days == 1 | Days == 9": lambda: sleepstudy().query("Days == 1 or Days == 9"),
    "sleepstudy, first subject": lambda: sleepstudy().head(10),
    "sleepstudy, first 20 rows": lambda: sleepstudy().head(20),
    "sleepstudy, row numbers": lambda: sleepstudy(obs=[f"r{i}" for i in range(180)]),
    "sleepstudy, 2 Days": lambda: sleepstudy().eval("days2 = 2 * Days"),
    "sleepstudy, weights 5": lambda: sleepstudy(w=5.0),
    "sleepstudy, Days as factor": lambda: sleepstudy().assign(
        Daysf=lambda d: d["Days"].astype(str)
    ),
    "sleepstudy, response 1-3 missing": lambda: sleepstudy_missing("Reaction", [0, 1, 2]),
    "sleepstudy, Days all missing": lambda: sleepstudy_missing("Days", range(180)),
    "sleepstudy, infinite response": lambda: sleepstudy().assign(
        Reaction=lambda d: d["Reaction"].where(d["Reaction"] <= 400, np.inf)
    ),
    "sleepstudy, constant response": lambda: sleepstudy(Reaction=0.0),
    "sleepstudy, large covariate": lambda: sleepstudy(
        var1=file("sim_large_covariate")["var1"].to_numpy()
    ),
    "sleepstudy, Days in millionths": lambda: sleepstudy().assign(Days=lambda d: d["Days"] * 1e6),
    "cake, 1 empty cell": lambda: cake_cells(("C", "195")),
    "cake, 3 empty cells": lambda: cake_cells(("A", "175"), ("B", "185"), ("C", "195")),
    "Oats, 63 rows": lambda: file("Oats").drop(
        index=[i - 1 for i in (1, 2, 3, 5, 8, 13, 21, 34, 55)]
    ),
    "shoes, 18 rows": lambda: file("shoes").drop(index=[0, 11]),
    "cbpp, row numbers": lambda: file("cbpp").assign(obs=[f"r{i}" for i in range(56)]),
    "five rows": lambda: pd.DataFrame({"group": list("abcde"), "y": np.arange(1.0, 6.0)}),
    "weighted by hand": weighted_by_hand,
    "ten rows": ten_rows,
    "fifteen rows": fifteen_rows,
    "nested components": nested_components,
    "slope only": slope_only,
    "three classes": three_classes,
    "pairs, missing": pairs_missing,
}


def load(name):
    """The data of a case, by the name in the table."""
    if name in DERIVED:
        return DERIVED[name]()
    if (FILES / f"{name}.csv").exists():
        return file(name)
    return lj.datasets.load(name)
