"""What must be the same however it is asked: tables, lanes, predictions and plain likelihoods."""

import warnings

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from consumers import TESTS, factors_of
from hypothesis import assume, given
from random_models import BARS, FIXED, THOROUGH, examples, models

import lmmjax as lj

GROUPINGS = pytest.mark.parametrize("grouping", list(BARS))


def close(first, second, what, rtol=1e-6):
    np.testing.assert_allclose(first, second, rtol=rtol, atol=rtol, err_msg=what)


def quantities(estimate, at=()):
    """What one fit and a lane of many both have."""
    return {
        name: np.asarray(getattr(estimate, name))[at]
        for name in ("beta", "theta", "sigma", "criterion")
    }


@pytest.mark.parametrize("grouping", list(BARS) if THOROUGH else ["one", "crossed"])
@given(data=st.data())
@examples(2)
def test_a_fit_is_its_lane_in_a_batch(grouping, data):
    model = data.draw(models(grouping, weighted=False))
    fit = model.fit()
    other = fit.design.y[::-1]
    many = lj.fit_many(fit, np.stack([fit.design.y, other]))
    frame = fit.data.assign(y=other)
    for lane, single in enumerate((fit, model.but(frame=frame).fit())):
        for name, value in quantities(single).items():
            close(value, quantities(many, lane)[name], name, 1e-5)
        close(single.tvalues, many.tvalues[lane], "t", 1e-5)
        close(single.pvalues, many.pvalues[lane], "p", 1e-5)
        close(single.raw.estimate.df, many.df[lane], "df", 1e-4)
        assert bool(single.is_singular) == bool(many.singular[lane])
        L = np.eye(fit.design.p)[1:]
        columns = list(TESTS.values())
        own, row = single.contest(L)[columns].iloc[0], many.contest(L)[columns].iloc[lane]
        close(own.to_numpy(float), row.to_numpy(float), "F", 1e-4)


def maximal(terms):
    """Terms that no other contains."""
    parts = [set(t.split(":")) for t in terms]
    return [t for t, own in zip(terms, parts, strict=True) if not any(own < p for p in parts)]


@GROUPINGS
@given(data=st.data())
@examples(4)
def test_the_last_term_is_tested_alike_in_all_tables(grouping, data):
    """After all others: sequential, marginal and partial tests of a term that none contains."""
    fit = data.draw(models(grouping)).fit()
    one, two, three = (fit.anova(kind).frame for kind in (1, 2, 3))
    dropped = fit.drop1().frame
    last = one.index[-1]
    alike(one.loc[last], three.loc[last], f"I and III of {last}")
    for term in maximal(three.index):
        alike(two.loc[term], three.loc[term], f"II and III of {term}")
        alike(dropped.loc[term], three.loc[term], f"drop1 and III of {term}")


def alike(first, second, what):
    """Two rows of tests; pooled denominators depend on the directions that span the hypothesis."""
    df1, df2, F, p = ([row[column] for row in (first, second)] for column in TESTS.values())
    close(*df1, f"df1: {what}")
    close(*F, f"F: {what}")
    span = 1e-6 if df1[0] == 1 else 0.5
    close(*df2, f"df2: {what}", span)
    close(*p, f"p: {what}", span)


@GROUPINGS
@given(data=st.data())
@examples(4)
def test_f_of_one_df_is_the_square_of_t(grouping, data):
    fit = data.draw(models(grouping)).fit()
    table = fit.summary().coefficients
    for i, name in enumerate(fit.design.x_names):
        row = np.eye(fit.design.p)[i]
        joint, alone = fit.contest(row).iloc[0], fit.contest(row, joint=False).iloc[0]
        t, df, p = table.loc[name, ["t value", "df", "Pr(>|t|)"]]
        for found in (joint["F value"], alone["t value"] ** 2):
            close(found, t**2, f"F of {name}")
        close([joint["DenDF"], alone["df"]], [df, df], f"df of {name}")
        close([joint["Pr(>F)"], alone["Pr(>|t|)"]], [p, p], f"p of {name}")
    tests = fit.anova("III").frame
    bound = {part for term in tests.index if ":" in term for part in term.split(":")}
    for name in set(tests.index) & set(table.index) - bound:
        close(tests.loc[name, "F value"], table.loc[name, "t value"] ** 2, f"III of {name}")
        close(tests.loc[name, "DenDF"], table.loc[name, "df"], f"III's df of {name}")


@GROUPINGS
@given(data=st.data())
@examples(4)
def test_marginal_tests_are_those_of_the_terms(grouping, data):
    """Of factors without interactions: joint tests of means' contrasts, and type III.

    The denominator of several df depends on how the space is spanned, unless all single functions
    have the same.
    """
    model = data.draw(models(grouping, ("s", "r + k", "f + x + u + v")))
    fit = model.fit()
    joint = fit.joint_tests().frame.set_index("model term")
    three = fit.anova("III").frame
    for factor in factors_of(fit):
        found = fit.emmeans(factor).contrast("eff").test(joint=True).frame.iloc[0]
        for row in (joint.loc[factor], found):
            close(row["df1"], three.loc[factor, "NumDF"], f"df1 of {factor}")
            close(row["F.ratio"], three.loc[factor, "F value"], f"F of {factor}")
            close(row["df2"], three.loc[factor, "DenDF"], f"df2 of {factor}", 0.5)


@GROUPINGS
@given(data=st.data())
@examples(3)
def test_marginal_means_are_means_of_predictions(grouping, data):
    model = data.draw(models(grouping, tuple(set(FIXED) - {"q * k"})))
    fit = model.fit()
    factors = factors_of(fit)
    assume(factors)
    levels = [list(fit.data[name].cat.categories) for name in factors]
    grid = pd.MultiIndex.from_product(levels, names=factors).to_frame(index=False)
    # Numbers stand at their means over the rows, and so does x squared's x.
    for name in model.covariates:
        grid[name] = fit.data[name].mean()
    for name in "ghab":
        grid[name] = fit.data[name].iloc[0]
    predicted = fit.predict(grid, include_re=False, se=True)
    for factor in factors:
        means = fit.emmeans(factor).frame.set_index(factor)
        own = predicted["fit"].groupby(grid[factor].to_numpy()).mean()
        close(means["emmean"].loc[own.index], own, f"means of {factor}")
    cells = fit.emmeans(factors).frame
    order = pd.MultiIndex.from_frame(cells[factors]).get_indexer(
        pd.MultiIndex.from_frame(grid[factors])
    )
    close(cells["SE"].to_numpy()[order], predicted["se"], "standard errors")


def dense(fit):
    """X, and ``V / sigma^2`` of a fit, rows by rows."""
    design = fit.design
    V = np.diag(1.0 / design.weights)
    for term, factor in zip(design.terms, fit.raw.factors, strict=True):
        half = term.Z @ factor
        V += (half @ half.T) * (term.index[:, None] == term.index[None, :])
    return design.X, V


@GROUPINGS
@given(data=st.data())
@examples(3)
def test_leverages_add_up_to_the_trace(grouping, data):
    """Of the matrix that takes the response to the fitted values, from V in full."""
    fit = data.draw(models(grouping)).fit()
    X, V = dense(fit)
    solved = np.linalg.solve(V, X)
    P = np.linalg.inv(V) - solved @ np.linalg.solve(X.T @ solved, solved.T)
    trace = len(V) - np.trace(P / fit.design.weights[:, None])
    close(fit.augment()[".hat"].sum(), trace, "sum of leverages", 1e-8)


@GROUPINGS
@given(data=st.data())
@examples(3)
def test_the_criterion_is_least_at_the_fit(grouping, data):
    """At 100 random points: near the fit, and anywhere."""
    fit = data.draw(models(grouping)).fit()
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    near = fit.theta * (1 + 0.1 * rng.normal(size=(50, fit.theta.size)))
    far = 10.0 ** rng.uniform(-2, 2, (50, fit.theta.size))
    places = np.concatenate([near, far * rng.choice([-1, 1], far.shape)])
    values = criteria(fit, np.concatenate([fit.theta[None], places]))
    close(values[0], fit.criterion, "the criterion at the fit", 1e-9)
    assert values[0] <= values[1:].min() + 1e-6


def criteria(fit, thetas):
    """``profiled_deviance`` at each row of an array."""
    import jax

    with lj.double_precision():
        function = jax.vmap(
            lambda theta, data: lj.profiled_deviance(theta, data, reml=fit.reml), (0, None)
        )
        return np.asarray(jax.jit(function)(thetas, fit.raw.data))


@pytest.mark.parametrize("grouping", list(BARS) if THOROUGH else ["one"])
@given(data=st.data())
@examples(3)
def test_smaller_models_fit_no_better(grouping, data):
    fit = data.draw(models(grouping)).fit()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lj.LmmWarning)
        fixed = fit.drop1(test="Chisq").frame["LRT"].iloc[1:]
        random = fit.ranova().frame
    assert fixed.min() >= -1e-7
    assert random["LRT"].iloc[1:].min() >= -1e-6


@pytest.mark.parametrize("grouping", list(BARS) if THOROUGH else ["one"])
@given(data=st.data())
@examples(3)
def test_a_weight_of_two_is_two_rows(grouping, data):
    """At any theta: the same fixed effects and sum of squares, and the determinant of n more rows.

    ``log|A| + n (1 + log(2 pi r^2 / n)) - sum log w``, lme4's deviance: A and r^2 are the same.
    """
    model = data.draw(models(grouping, weighted=False, method="ML"))
    formula, frame = model.formula, model.frame
    n = len(frame)
    once = lj.Design.from_formula(formula, frame.assign(two=2.0), weights="two")
    twice = lj.Design.from_formula(formula, pd.concat([frame, frame], ignore_index=True))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    theta = np.abs(rng.normal(size=3 if grouping == "slope" else len(once.terms)))
    found = []
    with lj.double_precision():
        for design in (once, twice):
            y = np.resize(frame.y, len(design.weights))
            products = lj.cross_products(lj.prepare_design(design), y)
            beta = lj.fixed_effects(theta, products)
            r2 = float(lj.residual_sd(theta, products, reml=False)) ** 2 * len(y)
            deviance = float(lj.profiled_deviance(theta, products, reml=False))
            rows = len(y)
            logdet = deviance - rows * (1 + np.log(2 * np.pi * r2 / rows))
            found.append((np.asarray(beta), r2, logdet))
    (beta, r2, logdet), (beta2, r22, logdet2) = found
    close(beta, beta2, "fixed effects", 1e-9)
    close(r2, r22, "sum of squares", 1e-9)
    close(logdet + n * np.log(2.0), logdet2, "log|A|", 1e-9)
