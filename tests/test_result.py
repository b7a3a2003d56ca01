"""What a fit can tell, against R where R says it, and the promises of the front end."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from reading_cases import ARGUMENTS, data

import lmmjax as lj
from lmmjax import covariance
from lmmjax.errors import ConvergenceWarning, SingularFitWarning
from lmmjax.messages import dropped_message, fit_messages
from lmmjax.optimize.solution import Status

REGULAR = [name for name in ARGUMENTS if name not in ("parts", "many")]


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_numbers_are_rs(name, read):
    ref, fit = read(name)
    assert_allclose(fit.llf, ref["logLik"], atol=1e-5)
    assert_allclose([fit.aic, fit.bic], [ref["AIC"], ref["BIC"]], atol=1e-5)
    assert fit.df_resid == ref["df_residual"]
    assert_allclose(fit.deviance, ref["deviance"], atol=1e-5)
    loose = 1e-4 if fit.is_singular else 1e-6
    for ours, theirs in (
        (fit.fittedvalues, "fitted"),
        (fit.predict(include_re=False), "fixed"),
        (fit.resid(), "response"),
        (fit.resid("pearson"), "pearson"),
        (fit.resid("scaled"), "scaled"),
        (fit.augment()[".hat"], "hat"),
        (fit.augment()[".cooksd"], "cooks"),
    ):
        assert_allclose(
            ours.to_numpy()[:10], ref[theirs], rtol=50 * loose, atol=loose, err_msg=theirs
        )
    wald = fit.conf_int(method="wald-z").to_numpy()
    assert_allclose(wald, np.array(ref["wald"]), rtol=1e-4)


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_cluster_coefficients_are_rs(name, read):
    ref, fit = read(name)
    ours = fit.coef()
    assert list(ours) == list(ref["coef"])
    for group, values in ref["coef"].items():
        names = ref["coef_columns"][group]
        names = [names] if isinstance(names, str) else names
        assert ours[group].columns.tolist() == names
        assert ours[group].index.tolist() == ref["levels"][group]
        assert_allclose(ours[group], np.array(values), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", REGULAR)
def test_wald_t_intervals_agree_with_p_values(name, read):
    """A coefficient is at the edge of the interval whose level is one minus its p value."""
    _, fit = read(name)
    for i, p in enumerate(fit.pvalues):
        if p > 1e-10:
            low, high = fit.conf_int(1.0 - p).iloc[i]
            assert min(abs(low), abs(high)) < 1e-5 * fit.standard_errors[i]


def test_statsmodels_names(sleep):
    assert sleep.params.equals(sleep.fixef)
    assert_allclose(sleep.bse**2, np.diag(sleep.cov_params()))
    assert_allclose(sleep.tvalues, sleep.params / sleep.bse)
    assert list(sleep.pvalues.index) == list(sleep.vcov.columns) == ["(Intercept)", "Days"]
    assert sleep.nobs == 180
    assert sleep.ngroups == {"Subject": 18}
    assert sleep.method == "REML"
    assert "Subject" in sleep.ranef()


def test_random_effects_as_a_frame(fits):
    fit = fits("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)")
    effects = fit.ranef(condvar=True)
    long = effects.to_frame()
    assert long.columns.tolist() == ["grpvar", "term", "grp", "condval", "condsd"]
    assert len(long) == 30
    assert_allclose(long["condsd"][:24] ** 2, effects.condvar["plate"][:, 0, 0])
    assert fit.ranef().condvar is None
    assert "condsd" not in fit.ranef().to_frame()
    assert "$plate" in repr(effects)


def test_icc_from_its_definition(sleep, fits):
    # Nakagawa et al. (2017): Z Sigma Z' averaged over the rows, from the printed components.
    G, s2 = sleep.varcorr["Subject"], sleep.sigma**2
    Z = np.column_stack([np.ones(180), sleep.data["Days"]])
    between = np.trace(Z @ G @ Z.T) / 180
    fixed = np.var(Z @ sleep.beta, ddof=1)
    icc = sleep.icc()
    assert_allclose(icc.adjusted, between / (between + s2), rtol=1e-10)
    assert_allclose(icc.conditional, between / (between + s2 + fixed), rtol=1e-10)
    assert_allclose(icc.by_group["Subject"], icc.adjusted)
    # Two factors: shares add up.
    fit = fits("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)")
    icc = fit.icc()
    parts = [fit.varcorr[g][0, 0] for g in ("plate", "sample")]
    assert_allclose(list(icc.random.values()), parts, rtol=1e-10)
    assert_allclose(sum(icc.by_group.values()), icc.adjusted, rtol=1e-12)
    assert_allclose(icc.conditional, icc.adjusted)  # an intercept alone has no variance
    assert "plate" in str(icc)


def test_tidy_glance_augment(sleep):
    tidy = sleep.tidy(("fixed", "ran_pars", "ran_vals"), conf_int=True)
    assert tidy.columns.tolist() == [
        *("effect", "group", "level", "term", "estimate", "std.error", "statistic", "df"),
        *("p.value", "conf.low", "conf.high"),
    ]
    assert tidy["effect"].value_counts().to_dict() == {"ran_vals": 36, "ran_pars": 4, "fixed": 2}
    fixed = tidy[tidy["effect"] == "fixed"].set_index("term")
    assert_allclose(fixed[["conf.low", "conf.high"]], sleep.conf_int())
    assert sleep.tidy("fixed")["group"].tolist() == [None, None]
    assert sleep.glance()["REMLcrit"].item() == sleep.criterion
    with pytest.raises(lj.LmmError, match="effects must be among"):
        sleep.tidy("random")
    augmented = sleep.augment()
    assert augmented.columns[:3].tolist() == ["Reaction", "Days", "Subject"]
    assert_allclose(augmented[".fitted"] + augmented[".resid"], augmented["Reaction"])


def test_rows_keep_their_labels():
    frame = lj.datasets.load("sleepstudy")
    frame.index = [f"r{i}" for i in range(180)]
    frame.loc["r3", "Reaction"] = np.nan
    fit = lj.lmm("Reaction ~ Days + (1 | Subject)", frame)
    kept = [i for i in frame.index if i != "r3"]
    assert fit.fittedvalues.index.tolist() == fit.resid().index.tolist() == kept
    assert fit.augment().index.tolist() == kept
    from_dict = lj.lmm("Reaction ~ Days + (1 | Subject)", {k: frame[k].array for k in frame})
    assert from_dict.fittedvalues.index.tolist() == [i for i in range(180) if i != 3]
    assert_allclose(from_dict.fittedvalues.to_numpy(), fit.fittedvalues.to_numpy())
    assert len(from_dict.augment()) == 179


def test_later_changes_of_the_frame_do_not_show():
    frame = lj.datasets.load("sleepstudy")
    fit = lj.lmm("Reaction ~ Days + (1 | Subject)", frame)
    before = fit.augment()
    frame["Days"] = 0
    frame["more"] = 1
    if int(pd.__version__.split(".")[0]) >= 3:
        pd.testing.assert_frame_equal(fit.augment(), before)
    assert "more" not in fit.augment()


def test_refit_is_the_fit_of_the_new_response(fits, sleep):
    rng = np.random.default_rng(1)
    y = sleep.design.y + rng.normal(0, 20, 180)
    again = sleep.refit(y)
    frame = fits.data("sleepstudy").assign(Reaction=y)
    fresh = lj.lmm("Reaction ~ Days + (1 + Days | Subject)", frame)
    assert_allclose(again.criterion, fresh.criterion, rtol=1e-10)
    assert_allclose(again.coefficients, fresh.coefficients, rtol=1e-6)
    assert_allclose(again.fittedvalues, fresh.fittedvalues, rtol=1e-6)
    assert_allclose(again.augment()["Reaction"], y)
    assert_allclose(sleep.refit(sleep.design.y).criterion, sleep.criterion, rtol=1e-13)
    # The first fit is as it was.
    assert_allclose(sleep.design.y, fits.data("sleepstudy")["Reaction"])


def test_refit_with_all_rows_given(read):
    _, fit = read("weights")
    full = data("cake")["angle"].to_numpy(copy=True)
    full[2] = np.nan
    assert fit.refit(full).criterion == pytest.approx(fit.criterion, abs=1e-9)
    with pytest.raises(lj.DataError, match=r"shape \(3,\); the fit has 269 rows \(of 270 given\)"):
        fit.refit(np.ones(3))


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (np.full(180, 2.0), "no variance"),
        (np.r_[np.nan, np.arange(179.0)], "not finite at row 0"),
        (np.array(["a"] * 180), "must be numeric"),
        (np.ones(3), r"shape \(3,\)"),
        (np.arange(180) > 4, "must be numeric"),
    ],
)
def test_refit_refuses(sleep, y, said):
    with pytest.raises(lj.DataError, match=said):
        sleep.refit(y)


def test_pickle_and_copy(sleep, read):
    for fit in (sleep, read("many")[1], read("crossed")[1]):
        str(fit.summary())
        for other in (pickle.loads(pickle.dumps(fit)), copy.deepcopy(fit), copy.copy(fit)):
            assert str(other.summary()) == str(fit.summary())
            assert other.predict().equals(fit.predict())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SingularFitWarning)
                again = other.refit(other.design.y)
            assert again.criterion == pytest.approx(fit.criterion, abs=1e-8)
    # What was computed on demand is not stored.
    assert len(pickle.dumps(sleep)) < 200_000


def test_resid_types(sleep):
    assert_allclose(sleep.resid("scaled") * sleep.sigma, sleep.resid())
    assert_allclose(sleep.resid("marginal") + sleep.predict(include_re=False), sleep.design.y)
    with pytest.raises(lj.LmmError, match="type must be one of"):
        sleep.resid("deviant")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"method": "OLS"}, "method must be 'REML' or 'ML'"),
        ({"na_action": "omit"}, "na_action must be"),
        ({"covariance": covariance.Diagonal}, "must map names"),
        ({"covariance": {"Item": covariance.Diagonal}}, "'Item', which is no grouping factor"),
        ({"covariance": {"Subject": covariance.Diagonal(3)}}, "of size 3, but the term has 2"),
        ({"covariance": {"Subject": [covariance.Diagonal] * 2}}, "2 covariance structures"),
        ({"covariance": {"Subject": "diagonal"}}, "a class or an instance"),
        ({"covariance": {"Subject": ["diagonal"]}}, "holds 'diagonal'"),
    ],
)
def test_wrong_arguments(arguments, said):
    with pytest.raises(lj.LmmError, match=said):
        lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"), **arguments)


@pytest.mark.parametrize("method", ["sample", "profiled", None])
def test_wrong_interval_method(sleep, method):
    with pytest.raises(lj.LmmError, match="method must be"):
        sleep.conf_int(method=method)


@pytest.mark.parametrize(
    "given", [covariance.Diagonal, covariance.Diagonal(2), [covariance.Diagonal(2)]]
)
def test_covariance_by_name(fits, given):
    """A diagonal structure is what ``||`` asks for."""
    frame = fits.data("sleepstudy")
    fit = lj.lmm("Reaction ~ Days + (Days | Subject)", frame, covariance={"Subject": given})
    split = fits("sleepstudy", "Reaction ~ Days + (Days || Subject)")
    assert_allclose(fit.criterion, split.criterion, atol=1e-8)
    assert str(fit.varcorr) == str(split.varcorr)
    assert fit.df_model == split.df_model == 5


def test_covariance_of_one_of_two_factors(fits):
    frame = fits.data("Penicillin")
    fit = lj.lmm(
        "diameter ~ 1 + (1 | plate) + (1 | sample)",
        frame,
        covariance={"sample": covariance.Identity},
    )
    usual = fits("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)")
    assert_allclose(fit.criterion, usual.criterion, atol=1e-8)


def test_a_singular_fit_is_said_once():
    with pytest.warns(SingularFitWarning) as caught:
        fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff2"))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    text = str(caught[0].message)
    assert "the variance of '(Intercept)' among the levels of 'Batch' is zero" in text
    assert "leave the term out" in text
    assert fit.is_singular
    assert text in fit.messages
    assert "singular" in repr(fit)
    # Zero is zero in the tables.
    assert fit.varcorr["Batch"][0, 0] == 0.0
    with pytest.warns(SingularFitWarning) as caught:
        fit.refit(fit.design.y)
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("angle ~ recipe + temp + (1 + temp | replicate)", r"correlation of '\(Intercept\)' and"),
        ("angle ~ recipe + temp + (1 + recipe | replicate)", "covariance matrix of 'replicate'"),
        ("angle ~ temp + (1 + temp || recipe:replicate) + (1 | replicate)", "of '.Intercept.'"),
    ],
)
def test_which_direction_is_singular(formula, said):
    with pytest.warns(SingularFitWarning, match=said):
        lj.lmm(formula, lj.datasets.load("cake"))


@pytest.mark.parametrize(
    ("scale", "shift"), [(1.0, 0.0), (1e6, 0.0), (1e-6, 0.0), (1.0, 1e6), (1e3, -50.0)]
)
def test_singular_or_not_whatever_the_units(scale, shift, fits):
    frame = fits.data("sleepstudy")
    frame = frame.assign(x=frame["Days"] * scale + shift)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SingularFitWarning)
        fit = lj.lmm("Reaction ~ x + (1 + x | Subject)", frame)
    assert not fit.is_singular
    assert_allclose(
        fit.criterion - 2 * np.log(scale),
        fits("sleepstudy", "Reaction ~ Days + (1 + Days | Subject)").criterion,
        atol=1e-6,
    )


def test_not_converged_is_said(sleep):
    from dataclasses import replace

    solution = sleep.raw.estimate.solution
    for status in (Status.ITERATION_LIMIT, Status.STALLED, Status.NOT_FINITE):
        raw = replace(
            sleep.raw,
            estimate=sleep.raw.estimate._replace(solution=solution._replace(status=int(status))),
        )
        fit = replace(sleep, raw=raw)
        assert not fit.converged
        [(category, text)] = fit_messages(fit)
        assert category is ConvergenceWarning
        assert status.message in text
        assert "Rescale" in text
        assert "not converged" in repr(fit)
        assert text in str(fit.summary())


def test_dropped_directions_are_said(sleep):
    from dataclasses import replace

    fixed = sleep.raw.estimate.fixed._replace(dropped=1)
    fit = replace(sleep, raw=replace(sleep.raw, estimate=sleep.raw.estimate._replace(fixed=fixed)))
    assert fit_messages(fit) == [(ConvergenceWarning, dropped_message(1))]
    assert "1 direction of" in dropped_message(1)
    assert "2 directions of" in dropped_message(2)


def test_optimizer_summary(sleep):
    summary = sleep.optimizer_summary
    assert summary.status is Status.CONVERGED
    assert summary.max_gradient < 1e-6
    assert summary.eigenvalues[0] > 0
    assert str(summary).startswith("newton: converged")


def test_making_a_result_makes_no_frames(sleep):
    """refit() must stay quick: what a user does not ask for is not computed."""
    fit = sleep.refit(sleep.design.y)
    assert set(vars(fit)) <= {"design", "raw", "formula", "data", "problems"}
    assert set(vars(fit.raw)) <= {
        *("prepared", "data", "y", "reml", "optimizer", "estimate", "rival"),
    }
