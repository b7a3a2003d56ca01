"""What users of R, statsmodels and other packages type, and what is typed here instead.

Tables of words only: nothing here is computed, and nothing is looked at unless a name is not found.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LINEAR = "only linear mixed models (a Gaussian response) are fitted here: lj.lmm"
_ATTRIBUTE = "an attribute, without brackets"

#: Names looked for in the package, in small letters.
IN_PACKAGE = {
    "lmer": "lj.lmm('y ~ x + (1 | g)', data), with lme4's formulas",
    "mixedlm": "lj.lmm('y ~ x + (1 | g)', data): groups and random slopes stand in the formula",
    "lme": "lj.lmm('y ~ x + (1 + x | g)', data): random effects stand in the formula",
    "fit": "lj.lmm('y ~ x + (1 | g)', data)",
    **dict.fromkeys(("glmer", "nlmer", "glmm", "glmmtmb", "bglmer", "gee"), _LINEAR),
    **dict.fromkeys(("lm", "ols", "gls"), "lj.lmm needs a random effect; statsmodels has OLS, GLS"),
    "fixef": f"fit.fixef ({_ATTRIBUTE})",
    "ranef": "fit.ranef()",
    "coef": "fit.coef()",
    "varcorr": f"fit.varcorr ({_ATTRIBUTE})",
    "vcov": f"fit.vcov ({_ATTRIBUTE})",
    "sigma": f"fit.sigma ({_ATTRIBUTE})",
    "loglik": f"fit.llf ({_ATTRIBUTE})",
    "deviance": f"fit.deviance ({_ATTRIBUTE})",
    "aic": f"fit.aic ({_ATTRIBUTE})",
    "bic": f"fit.bic ({_ATTRIBUTE})",
    "nobs": f"fit.nobs ({_ATTRIBUTE})",
    "issingular": f"fit.is_singular ({_ATTRIBUTE})",
    "fitted": f"fit.fittedvalues ({_ATTRIBUTE})",
    **dict.fromkeys(("resid", "residuals"), "fit.resid()"),
    "summary": "fit.summary()",
    "confint": "fit.conf_int()",
    "predict": "fit.predict(newdata)",
    "drop1": "fit.drop1()",
    **dict.fromkeys(("ranova", "rand"), "fit.ranova()"),
    "step": "fit.step()",
    "contest": "fit.contest(L)",
    **dict.fromkeys(("emmeans", "lsmeans"), "fit.emmeans('x')"),
    **dict.fromkeys(("emtrends", "lstrends"), "fit.emtrends('f', var='x')"),
    "contrast": "fit.emmeans('x').contrast()",
    "pairs": "fit.emmeans('x').pairs()",
    "joint_tests": "fit.joint_tests()",
    **dict.fromkeys(("bootmer", "bootstrap_fit"), "fit.bootstrap()"),
    "profile": "fit.profile()",
    "influence": "fit.influence()",
    "tidy": "fit.tidy()",
    "glance": "fit.glance()",
    "augment": "fit.augment()",
    "repca": "fit.repca()",
    "rpca": "fit.repca()",
    "icc": "fit.icc()",
    "r2": "fit.r2()",
    "refit": "fit.refit(y)",
    "refitml": "lj.lmm(..., method='ML'); lj.anova refits by itself",
    "update": "lj.lmm with the other formula, or fit.refit(y) for another response",
    "pbmodcomp": "lj.pb_test(large, small)",
    "krmodcomp": "fit.contest(L, ddf='kenward-roger') or fit.anova(ddf='kenward-roger')",
    **dict.fromkeys(("exactlrt",), "fit.exact_lrt()"),
    **dict.fromkeys(("exactrlrt",), "fit.exact_rlrt()"),
    "powersim": "lj.power(model, parameters, test)",
    "powercurve": "lj.power_curve(model, parameters, test, along=...)",
    "makelmer": "lj.simulate_design(...) and lj.TrueParameters",
    **dict.fromkeys(("data", "load_dataset", "load", "get_dataset"), "lj.datasets.load(name)"),
}

#: Names looked for on a fit, in small letters.
ON_FIT = {
    **dict.fromkeys(("confint", "confidence_intervals"), "conf_int()"),
    **dict.fromkeys(
        ("plot", "plots", "plot_diagnostics"),
        "lj.plot.residuals(fit), lj.plot.qq(fit), lj.plot.trajectories(fit), and the others of "
        "lj.plot; lj.plot.save_pictures(fit, folder) saves them all",
    ),
    **dict.fromkeys(("fixed_effects", "fe_params", "coefs", "fixed"), "fixef"),
    **dict.fromkeys(("random_effects", "blup", "blups", "ran_effects"), "ranef()"),
    **dict.fromkeys(("cov_re", "vcomp", "random_effects_cov"), "varcorr or variance_components()"),
    **dict.fromkeys(("bse_fe",), "bse"),
    **dict.fromkeys(("loglik", "loglike", "log_likelihood"), "llf"),
    **dict.fromkeys(("fitted", "fitted_values"), "fittedvalues"),
    **dict.fromkeys(("residuals", "resids"), "resid()"),
    "scale": "sigma (the residual standard deviation)",
    "df_residual": "df_resid",
    "issingular": "is_singular",
    "singular": "is_singular",
    "lsmeans": "emmeans()",
    "lstrends": "emtrends()",
    "rand": "ranova()",
    **dict.fromkeys(("t_test", "f_test", "wald_test", "wald_test_terms"), "contest(L) or anova()"),
    "ls_means": "emmeans()",
    "contrast": "emmeans('x').contrast()",
    "pairs": "emmeans('x').pairs()",
    **dict.fromkeys(("bootmer", "bootstrap_ci"), "bootstrap()"),
    "update": "refit(y) for another response; lj.lmm for another formula",
    "refitml": "lj.lmm(..., method='ML'); lj.anova refits by itself",
    "hatvalues": "influence()",
    **dict.fromkeys(("cooks_distance", "cooks", "dfbetas", "dfbeta"), "influence()"),
    **dict.fromkeys(("getme",), "design (X, Z of its terms), theta, raw"),
    "formula_str": "formula",
    "reml_criterion": "criterion",
    "n": "nobs",
    "ngrps": "ngroups",
    "n_groups": "ngroups",
    "rsquared": "r2()",
    "r_squared": "r2()",
    "get_prediction": "predict(newdata, interval='confidence')",
    "to_latex": "coefficients.to_latex()",
    "powersim": "lj.power(fit, ...)",
    "extend": "lj.extend(fit, ...)",
    "warnings": "messages",
    "convergence": "converged, messages and optimizer_summary",
}

#: Keywords, each with the argument that a function must have for the advice to be for it ("" for
#: any) and the advice; the value that was given stands for {}.
KEYWORDS: dict[str, tuple[tuple[str, str], ...]] = {
    **dict.fromkeys(
        ("groups", "group", "random", "fixed", "vc_formula", "exog_re"),
        (("formula", "random effects stand in the formula, as in 'y ~ x + (1 + x | g)'"),),
    ),
    **dict.fromkeys(
        ("re_formula", "re_form", "use_re", "random_effects", "include_random_effects"),
        (
            ("formula", "random effects stand in the formula, as in 'y ~ x + (1 + x | g)'"),
            (
                "include_re",
                "include_re= takes True (all random effects), False (none), or names of grouping "
                "factors",
            ),
            ("re", "re='new' draws random effects, re='fitted' keeps those of the fit"),
        ),
    ),
    "use_u": (("re", "re='new' draws random effects, re='fitted' keeps those of the fit"),),
    **dict.fromkeys(("family", "link", "distribution"), (("formula", _LINEAR),)),
    "control": (("optimizer", "optimizer= chooses the minimiser"),),
    **dict.fromkeys(
        ("start", "start_params", "maxiter", "verbose", "devFunOnly", "nAGQ", "niter"),
        (("optimizer", "there is nothing to set: leave it out"),),
    ),
    "subset": (("formula", "select the rows first, as in data[data['x'] > 0] or data.query(...)"),),
    "missing": (("na_action", "na_action= takes 'drop' or 'error'"),),
    **dict.fromkeys(
        ("correlation", "cov_type", "varIdent"),
        (
            (
                "covariance",
                "residuals are independent, with weights= at most; covariance= is for the random "
                "effects",
            ),
        ),
    ),
    "type": (
        ("include_re", "leave it out: predictions are on the scale of the response"),
        (
            "specs",
            "emmeans(...).response() gives a transformed response's own scale; otherwise leave it "
            "out",
        ),
        ("side", "response() gives a transformed response's own scale"),
    ),
    **dict.fromkeys(
        ("exog", "new_data", "X", "data", "df_new"), (("newdata", "newdata= takes the new rows"),)
    ),
    **dict.fromkeys(("se_fit", "return_std", "std"), (("se", "se=True adds standard errors"),)),
    **dict.fromkeys(("condVar", "postVar", "cond_var"), (("condvar", "condvar=True"),)),
    "parm": (
        ("which", "which= takes 'fixed', 'random' or 'all'"),
        ("parameters", "parameters= takes their names"),
    ),
    **dict.fromkeys(
        ("lmer_df", "df", "mode", "dfmethod", "df_method"),
        (("ddf", "ddf= takes 'satterthwaite', 'kenward-roger' or 'asymptotic'"),),
    ),
    **dict.fromkeys(("typ", "anova_type"), (("type", "type= takes 'I', 'II' or 'III'"),)),
    **dict.fromkeys(
        ("nsim", "n_sim", "nboot", "n_boot", "n_resamples", "reps", "B", "R", "draws"),
        (("n", "n= is how many"), ("nsim", "nsim= is how many"), ("replicates", "replicates=")),
    ),
    **dict.fromkeys(
        ("seed", "random_state", "rng", "key"),
        (
            ("key", "key= takes a whole number (or a JAX key)"),
            ("seed", "seed= takes a whole number"),
        ),
    ),
    **dict.fromkeys(
        ("p_adjust", "correction", "padjust"), (("adjust", "adjust= chooses the correction"),)
    ),
    "adjust": (("specs", "adjust= is for what follows: emmeans(...).pairs(adjust=...)"),),
    **dict.fromkeys(("cov_reduce", "cov_keep"), (("at", "at= takes values of the predictors"),)),
}
#: Keywords that say a level; the first two by its complement.
LEVELS = ("alpha", "sig_level", "conf_level", "confidence_level", "conf", "ci", "coverage", "prob")


def advice_on_keyword(function: str, parameters: Iterable[str], name: str, value: object) -> str:
    """Return what to write in place of a keyword that a function does not have."""
    parameters = [p for p in parameters if p not in ("self", "cls")]
    text = ""
    if name.upper() == "REML" and "method" in parameters and isinstance(value, bool):
        text = f"write method={'REML' if value else 'ML'!r}"
    elif name in LEVELS and "level" in parameters:
        share = float(value) if isinstance(value, int | float) else 0.0
        share = share / 100 if 1 < share <= 100 else share
        level = 1.0 - share if name in LEVELS[:2] else share
        text = f"write level={level:.12g}" if 0 < level < 1 else "level= is that of the intervals"
    else:
        text = next((t for needs, t in KEYWORDS.get(name, ()) if needs in parameters), "")
    if not text:
        close = get_close_matches(name.lower(), parameters, 1, 0.7)
        text = f"did you mean {close[0]!r}? " if close else ""
        known = ", ".join(parameters)
        text += f"It takes {known}" if known else "It takes none"
    return f"{function}() has no argument {name!r}: {text}"


def advice_on_name(name: str, table: dict[str, str], known: Iterable[str]) -> str:
    """Return what to write in place of a name that is not there, after a colon; or nothing."""
    if name.startswith("_"):
        return ""
    plain = name.lower()
    if plain in table:
        return f": write {table[plain]}"
    known = [each for each in known if not each.startswith("_")]
    close = get_close_matches(name, known, 1, 0.75) or [k for k in known if k.lower() == plain]
    return f": did you mean {close[0]!r}?" if close else ""
