"""Everything that reads a fit, as numbers with labels that do not depend on how data were written.

A consumer takes a fit and the :class:`Scale` of its data, and gives a dictionary of numbers in
units that are free of the data's. Labels say what a number may depend on, by their first word:

- ``coef``: on the coding of the factors;
- ``origin``: on where covariates have their zero;
- ``type-one``: on the order of the terms;
- ``place``: on the places of rows and levels, where random numbers are drawn for them;
- ``free``: on nothing.

A second word ``span`` marks the denominators of several-df F tests (Fai & Cornelius), which depend
on the directions that span the hypothesis, as lmerTest's do; and ``chance`` shares of simulated
data sets.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import lmmjax as lj

Numbers = dict[str, Any]
#: Data sets of a power study; five standard errors are what two shares may differ by.
CHANCE = 400


@dataclass(frozen=True)
class Scale:
    """Unit and origin of the response, units of the covariates, and groups' names as first given.

    ``origin`` is in the response's own unit.
    """

    y: float = 1.0
    origin: float = 0.0
    columns: dict[str, float] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)

    def of(self, name: str) -> float:
        """Unit of a coefficient's column."""
        unit = 1.0
        for part in name.split(":"):
            column = re.fullmatch(r"(?:I\()?(\w+?)(?:\s*(?:\*\*|\^)\s*2\))?", part)
            if column:
                power = 2 if "2)" in part else 1
                unit *= self.columns.get(column[1], 1.0) ** power
        return unit

    def slope(self, name: str) -> float:
        """What to multiply a coefficient by."""
        return self.of(name) / self.y

    def group(self, name: str) -> str:
        return self.groups.get(name, name)


def sort_name(name: str) -> str:
    """`a:b` for `b:a`."""
    return ":".join(sorted(name.split(":")))


def kind(name: str) -> str:
    """First word of a label for a coefficient or a standard deviation of that name."""
    return "origin" if "(Intercept)" in name else "free"


def f_tests(prefix: str, frame: Any, columns: dict[str, str], pooled: bool = True) -> Numbers:
    """Numbers of a table of F tests, one row a term; of which the denominators may be pooled."""
    out: Numbers = {}
    for term in frame.index:
        several = pooled and frame.loc[term, columns["df1"]] > 1
        for short, column in columns.items():
            first, *rest = prefix.split(" ")
            words = [first, *(["span"] if several and short in ("df2", "p") else []), *rest]
            out[f"{' '.join(words)} {sort_name(str(term))} {short}"] = frame.loc[term, column]
    return out


def rows(prefix: str, frame: Any, columns: dict[str, str]) -> Numbers:
    """Numbers of another table, one row a term."""
    return {
        f"{prefix} {sort_name(str(term))} {short}": frame.loc[term, column]
        for term in frame.index
        for short, column in columns.items()
    }


TESTS = {"df1": "NumDF", "df2": "DenDF", "F": "F value", "p": "Pr(>F)"}


def summary(fit: Any, scale: Scale) -> Numbers:
    out: Numbers = {"free sigma": fit.sigma / scale.y}
    table = fit.summary().coefficients
    for name, row in table.iterrows():
        first = "coef origin" if name == "(Intercept)" else "coef"
        label = f"{first} {sort_name(str(name))}"
        out |= {
            f"{label} estimate": row["Estimate"] * scale.slope(str(name)),
            f"{label} se": row["Std. Error"] * scale.slope(str(name)),
            f"{label} df": row["df"],
            f"{label} t": row["t value"],
            f"{label} p": row["Pr(>|t|)"],
        }
        if name == "(Intercept)":  # moves with the response's origin
            for part in ("estimate", "t", "p"):
                del out[f"{label} {part}"]
            out[f"{label} estimate"] = (row["Estimate"] - scale.origin) / scale.y
    return out


def components(fit: Any, scale: Scale) -> Numbers:
    out: Numbers = {}
    for row in fit.tidy("ran_pars").itertuples():
        unit = 1.0
        if row.term.startswith("sd__") and row.group != "Residual":
            unit = scale.slope(row.term.removeprefix("sd__"))
        elif row.group == "Residual":
            unit = 1.0 / scale.y
        out[f"{kind(row.term)} {sort_name(row.group)} {row.term}"] = row.estimate * unit
    out["free singular"] = float(fit.is_singular)
    return out


def anova(fit: Any, scale: Scale) -> Numbers:
    out: Numbers = {}
    for kind_of_test, first in (("I", "type-one"), ("II", "free"), ("III", "free")):
        frame = fit.anova(kind_of_test).frame
        out |= f_tests(f"{first} {kind_of_test}", frame, TESTS)
        for term in frame.index:
            label = f"{first} {kind_of_test} {sort_name(str(term))} squares"
            out[label] = frame.loc[term, "Sum Sq"] / scale.y**2
    return out


def kenward_roger(fit: Any, scale: Scale) -> Numbers:
    if fit.method != "REML":
        return {}
    return f_tests("free KR", fit.anova(ddf="kenward-roger").frame, TESTS, pooled=False)


def contest(fit: Any, scale: Scale) -> Numbers:
    """All coefficients at once, and each alone."""
    p = fit.design.p
    joint = fit.contest(np.eye(p)[1:])
    joint.index = ["all"]
    out = f_tests("free", joint, TESTS)
    each = fit.contest(np.eye(p)[1:], joint=False)
    for i, name in enumerate(fit.design.x_names[1:]):
        row = each.iloc[i]
        out |= {
            f"coef {sort_name(name)} t": row["t value"],
            f"coef {sort_name(name)} df": row["df"],
            f"coef {sort_name(name)} lower": row["lower"] * scale.slope(name),
        }
    return out


def factors_of(fit: Any) -> list[str]:
    return [name for name in "kfqrs" if name in re.findall(r"\w+", fit.formula)]


def emmeans(fit: Any, scale: Scale) -> Numbers:
    out: Numbers = {}
    for factor in factors_of(fit):
        means = fit.emmeans(factor)
        for _, row in means.frame.iterrows():
            label = f"free {factor} {row[factor]}"
            out |= {
                f"{label} mean": (row["emmean"] - scale.origin) / scale.y,
                f"{label} se": row["SE"] / scale.y,
                f"{label} df": row["df"],
                f"{label} upper": (row.get("upper.CL", np.nan) - scale.origin) / scale.y,
            }
        for _, row in means.pairs().frame.iterrows():
            left, right = sorted(str(row["contrast"]).split(" - "))
            sign = 1.0 if str(row["contrast"]).startswith(left) else -1.0
            label = f"free {factor} {left} - {right}"
            out |= {
                f"{label} difference": sign * row["estimate"] / scale.y,
                f"{label} t": sign * row.get("t.ratio", np.nan),
                f"{label} df": row["df"],
                f"{label} p": row["p.value"],
            }
    return out


def emtrends(fit: Any, scale: Scale) -> Numbers:
    words = re.findall(r"\w+", fit.formula.split("+ (")[0])
    if "x" not in words:
        return {}
    by = [f for f in factors_of(fit)][:1] or ["~ 1"]
    found = fit.emtrends(by[0], "x").frame
    out: Numbers = {}
    for _, row in found.iterrows():
        label = f"free x at {row.iloc[0]}"
        out |= {
            f"{label} trend": row["x.trend"] * scale.slope("x"),
            f"{label} se": row["SE"] * scale.slope("x"),
            f"{label} df": row["df"],
        }
    return out


def joint_tests(fit: Any, scale: Scale) -> Numbers:
    frame = fit.joint_tests().frame.set_index("model term")
    columns = {"df1": "df1", "df2": "df2", "F": "F.ratio", "p": "p.value"}
    return f_tests("free joint", frame, columns)


def drop1(fit: Any, scale: Scale) -> Numbers:
    return f_tests("free drop1", fit.drop1().frame, TESTS)


def drop1_by_likelihood(fit: Any, scale: Scale) -> Numbers:
    frame = fit.drop1(test="Chisq").frame.iloc[1:]
    return rows("free", frame, {"npar": "npar", "LRT": "LRT", "p": "Pr(>Chisq)"})


def ranova(fit: Any, scale: Scale) -> Numbers:
    frame = fit.ranova().frame.iloc[1:]
    return rows("free", frame, {"LRT": "LRT", "Df": "Df", "p": "Pr(>Chisq)"})


def ranef(fit: Any, scale: Scale) -> Numbers:
    out: Numbers = {}
    for group, frame in fit.ranef().items():
        for level, row in frame.iterrows():
            place = sort_name(":".join(scale.group(part) for part in str(level).split(":")))
            for name, value in row.items():
                out[f"{kind(str(name))} {sort_name(group)} {place} {name}"] = value * scale.slope(
                    str(name)
                )
    return out


def predict(fit: Any, scale: Scale) -> Numbers:
    """Rows by their labels in the frame's index."""
    out: Numbers = {}
    for name, included in (("with", True), ("without", False)):
        frame = fit.predict(include_re=included, interval="confidence", se=True).sort_index()
        out |= {
            f"free {name} fit": (frame["fit"].to_numpy() - scale.origin) / scale.y,
            f"free {name} se": frame["se"].to_numpy() / scale.y,
            f"free {name} upper": (frame["upper"].to_numpy() - scale.origin) / scale.y,
        }
    new = fit.data.iloc[::7]
    found = fit.predict(new, interval="prediction").sort_index()
    at = np.argsort(new.index)
    own = fit.predict(include_re=True).loc[new.index].to_numpy()[at]
    out["free new rows"] = (found["fit"].to_numpy() - own) / scale.y
    return out


def residuals(fit: Any, scale: Scale) -> Numbers:
    augmented = fit.augment().sort_index()
    return {
        "free residuals": augmented[".resid"].to_numpy() / scale.y,
        "free leverages": augmented[".hat"].to_numpy(),
        "free cooksd": augmented[".cooksd"].to_numpy(),
    }


def influence(fit: Any, scale: Scale) -> Numbers:
    """Single rows with the variances held, and whole groups fitted again."""
    single = fit.influence()
    out: Numbers = {
        f"free row {name}": single.frame[name].sort_index().to_numpy()
        for name in ("cooksd", "rstudent", "dffits")
    }
    unit = fit.design.terms[0].group
    if unit != "g":
        return out
    groups = fit.influence(unit)
    for level in groups.frame.index:
        label = f"free {unit} {scale.group(str(level))}"
        out[f"{label} cooksd"] = groups.frame.loc[level, "cooksd"]
        out[f"{label} sigma"] = groups.frame.loc[level, "sigma"] / scale.y
    return out


def glance(fit: Any, scale: Scale) -> Numbers:
    """Differences that no unit enters."""
    return {"free parameters": fit.aic - fit.criterion, "free rows": float(fit.nobs)}


def shares(fit: Any, scale: Scale) -> Numbers:
    r2 = fit.r2().frame
    return {f"free {i} {c}": r2.loc[i, c] for i in r2.index for c in r2.columns[:1]}


def profile(fit: Any, scale: Scale) -> Numbers:
    found = fit.conf_int(method="profile")
    out: Numbers = {}
    for name, row in found.iterrows():
        inner = str(name).split("|")[0].removeprefix("sd_")
        for side in ("lower", "upper"):
            label = f"{kind(str(name))} {'|'.join(map(sort_name, str(name).split('|')))} {side}"
            if name == "(Intercept)":
                out[f"coef origin {name} {side}"] = (row[side] - scale.origin) / scale.y
            elif name == "sigma":
                out[label] = row[side] / scale.y
            elif str(name).startswith("cor_"):
                out[label] = row[side]
            elif "|" in str(name):
                out[label] = row[side] * scale.slope(inner)
            else:
                out[f"coef {sort_name(str(name))} {side}"] = row[side] * scale.slope(inner)
    return out


def bootstrap(fit: Any, scale: Scale) -> Numbers:
    """Draws depend on the places of rows and levels."""
    frame = fit.bootstrap(8, key=1).replicates
    p = fit.design.p
    scales = np.array([scale.slope(name) for name in fit.design.x_names])
    beta = np.asarray(frame)[:, -p:] * scales
    beta[:, 0] -= scale.origin / scale.y
    return {"place origin intercept": beta[:, 0], "place coef": beta[:, 1:]}


def power(fit: Any, scale: Scale) -> Numbers:
    """Of the last coefficient: alike in distribution, for draws are of an orthonormal basis."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lj.LmmWarning)
        found = lj.power(fit, nsim=CHANCE, key=2)
    return {
        "coef chance power": found.power,
        "free chance singular": found.frame["singular"].iloc[0],
        "free chance not converged": found.frame["not_converged"].iloc[0],
    }


#: Reads of a fit that take milliseconds.
CHEAP: dict[str, Callable[[Any, Scale], Numbers]] = {
    f.__name__: f
    for f in (
        summary,
        components,
        anova,
        contest,
        emmeans,
        emtrends,
        joint_tests,
        drop1,
        ranef,
        predict,
        residuals,
        glance,
        shares,
    )
}
#: Reads that compile, or fit many times.
DEAR: dict[str, Callable[[Any, Scale], Numbers]] = {
    f.__name__: f
    for f in (kenward_roger, drop1_by_likelihood, ranova, influence, profile, bootstrap, power)
}


def assert_alike(
    first: Any,
    second: Any,
    scale: Scale | None = None,
    *,
    dear: bool = False,
    without: tuple[str, ...] = (),
    spans: bool = False,
    rtol: float = 1e-6,
) -> None:
    """Hold every consumer to the same answers for two fits.

    But for numbers that the words in `without` begin the labels of. Where hypotheses are spanned
    by other directions (`spans`), pooled denominators agree within a half.
    """
    found: list[str] = []
    for name, consumer in (CHEAP | (DEAR if dear else {})).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pair = [
                    {
                        label: value
                        for label, value in numbers.items()
                        if not set(without) & set(label.split()[:2])
                    }
                    for numbers in (consumer(first, Scale()), consumer(second, scale or Scale()))
                ]
            except Exception as error:
                found.append(f"{name}: {type(error).__name__}: {error}")
                continue
        found += [f"{name}: {line}" for line in differences(*pair, rtol, 0.5 if spans else rtol)]
    assert not found, "\n".join(found)


def differences(first: Numbers, second: Numbers, rtol: float, span: float) -> list[str]:
    """What differs between two readings, the worst first: relative, to 1 for smaller numbers."""
    special = {"span": span, "chance": 5.0 * (0.5 / CHANCE) ** 0.5}
    alone = first.keys() ^ second.keys()
    found = [f"in one alone: {', '.join(sorted(alone))}"] if alone else []
    sizes = {}
    for label in first.keys() & second.keys():
        a, b = np.atleast_1d(first[label]).astype(float), np.atleast_1d(second[label]).astype(float)
        if a.shape != b.shape:
            found.append(f"{label}: {a.shape}, {b.shape}")
            continue
        with np.errstate(invalid="ignore"):
            gap = np.abs(a - b) / np.maximum(1.0, np.maximum(np.abs(a), np.abs(b)))
        gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, gap)
        gap = np.where(np.isnan(gap), np.inf, gap)
        if np.max(gap, initial=0.0) > special.get(label.split()[1], rtol):
            at = int(np.argmax(gap))
            sizes[label] = (float(gap[at]), float(a[at]), float(b[at]))
    for label in sorted(sizes, key=lambda k: -sizes[k][0])[:5]:
        gap, a, b = sizes[label]
        found.append(f"{label}: {a:.9g}, {b:.9g} ({gap:.1g})")
    return found
