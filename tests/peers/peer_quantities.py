"""What a case asks of a fit: one short function for each kind of quantity, found by its name.

In the table a quantity is its name and what it needs, parted by semicolons: ``fixef; Days``,
``anova; III; recipe:temp; F value``, ``emmeans; nitro; 0.4; SE; ddf=kenward-roger``.
"""

import json
import re

import numpy as np

import lmmjax as lj

QUANTITIES = {}


def quantity(function):
    QUANTITIES[function.__name__.rstrip("_").replace("_", " ")] = function
    return function


def ask(fit, what, fit_of):
    """The quantity `what` of a fit; `fit_of(formula)` fits another model to the same data."""
    name, *parts = (part.strip() for part in what.split(";"))
    keyword = dict(part.split("=", 1) for part in parts if _key(part))
    positional = [part for part in parts if not _key(part)]
    function = QUANTITIES[name]
    if name.startswith("lrt"):
        return function(fit, fit_of(positional[0]), *positional[1:], **keyword)
    if name == "refit":
        return ask(fit.refit(_response(*positional[:2])), "; ".join(positional[2:]), fit_of)
    return function(fit, *positional, **keyword)


def _key(part):
    return re.match(r"(ddf|at|by|include|side|level|adjust|reduce|weights|scale)=", part)


def _response(data, column):
    from peer_data import load

    return load(data)[column].to_numpy()


def _plain(name):
    """Names of coefficients and terms as R writes them, without spaces."""
    return str(name).replace(" ", "").replace("**", "^")


def _row(frame, name):
    """The row of a table by its name."""
    return frame.iloc[[_plain(n) for n in frame.index].index(_plain(name))]


def _row_about(frame, text):
    """The only row of a table whose name has this text."""
    (at,) = [i for i, n in enumerate(frame.index) if _plain(text) in _plain(n)]
    return frame.iloc[at]


def _coefficient(fit, name):
    names = [_plain(n) for n in fit.fixef.index]
    return int(name[1:]) if name.startswith("#") else names.index(_plain(name))


# --- the fixed effects ---------------------------------------------------------------------------


@quantity
def fixef(fit, name):
    return fit.fixef.iloc[_coefficient(fit, name)]


@quantity
def se(fit, name):
    return np.asarray(fit.standard_errors)[_coefficient(fit, name)]


@quantity
def t(fit, name):
    return np.asarray(fit.tvalues)[_coefficient(fit, name)]


@quantity
def df(fit, name):
    return np.asarray(fit.df)[_coefficient(fit, name)]


@quantity
def p(fit, name):
    return np.asarray(fit.pvalues)[_coefficient(fit, name)]


@quantity
def vcov(fit, one, other):
    return np.asarray(fit.vcov)[_coefficient(fit, one), _coefficient(fit, other)]


@quantity
def correlation_of(fit, one, other):
    return vcov(fit, one, other) / se(fit, one) / se(fit, other)


@quantity
def adjusted_se(fit, name):
    at = _coefficient(fit, name)
    return np.sqrt(fit.kenward_roger.adjusted[at, at])


@quantity
def conf_int(fit, method, name, side):
    # The random part is named as in `signames = FALSE` of lme4.
    which = None if method == "wald-z" else "all"
    return _intervals(fit, method, which).loc[name, side]


def _intervals(fit, method, which):
    made = fit.__dict__.setdefault("_peer_intervals", {})
    if method not in made:
        made[method] = fit.conf_int(method=method, which=which)
    return made[method]


# --- the random effects --------------------------------------------------------------------------


def _component(fit, group, one, other=None):
    frame = fit.varcorr.to_frame()
    # Bars of one factor are Subject and Subject.1, as in lme4.
    rows = frame[frame["grp"].str.fullmatch(re.escape(group) + r"(\.\d+)?")]
    if other is None:
        chosen = rows[rows["var2"].isna() & ((rows["var1"] == one) | rows["var1"].isna())]
    else:
        pair = {one, other}
        chosen = rows[[{a, b} == pair for a, b in zip(rows["var1"], rows["var2"], strict=True)]]
    return chosen.iloc[0]["sdcor"]


@quantity
def sd(fit, group, name="(Intercept)"):
    return _component(fit, group, name)


@quantity
def variance(fit, group, name="(Intercept)"):
    return _component(fit, group, name) ** 2


@quantity
def cov(fit, group, one, other):
    parts = _component(fit, group, one), _component(fit, group, other)
    return parts[0] * parts[1] * _component(fit, group, one, other)


@quantity
def theta(fit, index="0"):
    return np.asarray(fit.theta)[int(index)]


@quantity
def ranef(fit, group, level, name="(Intercept)"):
    return fit.ranef()[group].loc[level, name]


@quantity
def condvar(fit, group, level, row="0", column="0"):
    effects = fit.ranef(condvar=True)
    at = list(effects[group].index).index(level)
    return effects.condvar[group][at][int(row), int(column)]


@quantity
def coef(fit, group, level, name="(Intercept)"):
    return fit.coef()[group].loc[level, name]


@quantity
def singular(fit):
    return float(fit.is_singular)


# --- the fit as a whole --------------------------------------------------------------------------


@quantity
def sigma(fit):
    return fit.sigma


@quantity
def scale(fit):
    return fit.sigma**2


@quantity
def criterion(fit):
    return fit.criterion


@quantity
def criterion_at(fit, *theta):
    design = fit.design
    with lj.double_precision():
        data = lj.cross_products(lj.prepare_design(design), design.y)
        return float(lj.profiled_deviance(np.array(theta, float), data, reml=fit.reml))


@quantity
def loglik(fit):
    return fit.llf


@quantity
def aic(fit):
    return fit.aic


@quantity
def bic(fit):
    return fit.bic


@quantity
def pwrss(fit):
    return fit.sigma**2 * (fit.nobs - (fit.design.p if fit.reml else 0))


@quantity
def npar(fit):
    return fit.df_model


@quantity
def df_residual(fit):
    return fit.glance()["df.residual"].iloc[0]


@quantity
def nobs(fit):
    return fit.nobs


@quantity
def dropped_columns(fit):
    return len(fit.design.dropped_columns)


# --- its rows ------------------------------------------------------------------------------------


@quantity
def fitted(fit, row):
    return fit.fittedvalues.iloc[int(row)]


@quantity
def resid(fit, which):
    return _of_rows(fit.resid(), which)


@quantity
def scaled_resid(fit, which):
    return _of_rows(fit.resid() / fit.sigma, which)


def _of_rows(values, which):
    return getattr(values, which)() if which in ("min", "max", "sum") else values.iloc[int(which)]


@quantity
def leverage(fit, which):
    return _of_rows(fit.augment()[".hat"], which)


@quantity
def cooksd(fit, which):
    return _of_rows(fit.augment()[".cooksd"], which)


@quantity
def rstudent(fit, row):
    return fit.influence().frame["rstudent"].iloc[int(row)]


@quantity
def rstandard(fit, row):
    return fit.influence().frame["rstandard"].iloc[int(row)]


@quantity
def influence(fit, group, level, column):
    return fit.influence(group).frame.loc[level, column]


@quantity
def predict(fit, rows, include="all", column="fit", row="0"):
    """A prediction at given values: the random effects of all factors, of one, or of `none`."""
    named = {"all": True, "none": False}.get(include, include)
    made = fit.predict(json.loads(rows), include_re=named, allow_new_levels=True, se=True)
    return made[column].iloc[int(row)]


# --- tests ---------------------------------------------------------------------------------------


@quantity
def anova(fit, type, term, column, ddf="satterthwaite"):
    return _row(fit.anova(type=type, ddf=ddf).frame, term)[column]


@quantity
def anova_rows(fit, type):
    return len(fit.anova(type=type).frame)


@quantity
def drop1(fit, term, column, ddf="satterthwaite"):
    return _row(fit.drop1(ddf=ddf).frame, term)[column]


@quantity
def drop1_rows(fit):
    return len(fit.drop1().frame)


@quantity
def ranova(fit, term, column, reduce="yes"):
    return _row_about(fit.ranova(reduce_terms=reduce == "yes").frame, term)[column]


@quantity
def ranova_rows(fit, reduce="yes"):
    return len(fit.ranova(reduce_terms=reduce == "yes").frame)


@quantity
def contest(fit, L, column, rhs=None, ddf="satterthwaite"):
    rows = np.array(json.loads(L), float)
    return fit.contest(rows, json.loads(rhs) if rhs else None, ddf=ddf)[column].iloc[0]


@quantity
def contrast_t(fit, L, column, rhs=None, ddf="satterthwaite"):
    row = np.array([json.loads(L)], float)
    right = [float(rhs)] if rhs else None
    return fit.contest(row, right, joint=False, ddf=ddf)[column].iloc[0]


@quantity
def lrt(fit, other, column):
    """Against another model of the same data, by maximum likelihood."""
    return lj.anova(fit, other).frame[column].iloc[1]


@quantity
def lrt_reml(fit, other, column):
    """Against another model, by the criterion of the fits as they are."""
    return lj.anova(fit, other, refit=False).frame[column].iloc[1]


# --- marginal means ------------------------------------------------------------------------------


def _labelled(estimates, label, column):
    """The row whose labels, numbers in short, read `label`; or the row number `#i`."""
    frame = estimates.frame
    if label.startswith("#"):
        return frame[column].iloc[int(label[1:])]
    labels = frame.loc[:, : estimates.estimate_name].iloc[:, :-1]
    texts = [" ".join(_short(v) for v in row) for row in labels.itertuples(index=False)]
    return frame[column].iloc[texts.index(label)]


def _short(value):
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)


def _means(fit, specs, at=None, **kwargs):
    return fit.emmeans(specs, at=json.loads(at) if at else None, **kwargs)


@quantity
def emmeans(fit, specs, label, column, scale=None, **kwargs):
    means = _means(fit, specs, **kwargs)
    return _labelled(means.response() if scale == "response" else means, label, column)


@quantity
def emmeans_rows(fit, specs, **kwargs):
    return len(_means(fit, specs, **kwargs).frame)


@quantity
def contrast(fit, specs, method, label, column, adjust=None, **kwargs):
    made = _means(fit, specs, **kwargs).contrast(method, adjust=adjust)
    return _labelled(made, label, column)


@quantity
def contrast_rows(fit, specs, method, **kwargs):
    return len(_means(fit, specs, **kwargs).contrast(method).frame)


@quantity
def emtrends(fit, specs, var, label, column, at=None, **kwargs):
    made = fit.emtrends(specs, var, at=json.loads(at) if at else None, **kwargs)
    return _labelled(made, label, column)


@quantity
def joint_tests(fit, term, column, **kwargs):
    frame = fit.joint_tests(**kwargs).frame
    terms = frame["model term"] if "model term" in frame else frame.iloc[:, 0]
    return frame[column].iloc[[_plain(t) for t in terms].index(_plain(term))]


# --- again ---------------------------------------------------------------------------------------


@quantity
def refit(fit):
    """The quantity behind `refit; data; column; ...`, of the fit to that response; see ask()."""
