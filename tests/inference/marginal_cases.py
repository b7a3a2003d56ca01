"""The models of make_marginal_means.R, and the tables that it makes of them."""

import numpy as np

MODELS = {
    "cake": ("cake", "angle ~ recipe * temperature + (1 | recipe:replicate)", {}),
    "additive": ("cake", "angle ~ recipe + temp + (1 | recipe:replicate)", {}),
    "mixed": ("uneven", "angle ~ recipe * temp + (1 | recipe:replicate)", {}),
    "sleep": ("sleep", "Reaction ~ Days * group + I(Days^2) + (1 + Days | Subject)", {}),
    "logs": ("sleep", "log(Reaction) ~ poly(Days, 2) * group + (1 | Subject)", {}),
    "root": ("sleep", "sqrt(Reaction) ~ Days * group + (1 | Subject)", {}),
    "uneven": (
        "uneven",
        "angle ~ recipe * oven + moist + shelf + (1 | recipe:replicate)",
        {"weights": "w"},
    ),
    "equal": ("uneven", "angle ~ recipe * oven + moist + shelf + (1 | recipe:replicate)", {}),
    "sums": (
        "uneven",
        "angle ~ recipe * oven + log(moist) + factor(shelf) + (1 | recipe:replicate)",
        {"contrasts": {"recipe": "contr.sum", "oven": "contr.sum"}},
    ),
    "slopes": ("uneven", "angle ~ recipe + moist + oven + (0 + oven | replicate)", {}),
    "holes": ("holes", "angle ~ recipe * oven + (1 | recipe:replicate)", {}),
    "shifted": ("uneven", "angle ~ recipe + offset(moist) + (1 | recipe:replicate)", {}),
}
METHODS = ("satterthwaite", "kenward-roger", "asymptotic")

#: Each made by all three methods of degrees of freedom.
BY_METHOD = {
    "cake_recipe": ("cake", lambda m, **k: m.emmeans("recipe", **k)),
    "cake_both": ("cake", lambda m, **k: m.emmeans(["recipe", "temperature"], **k)),
    "cake_by": ("cake", lambda m, **k: m.emmeans("~ recipe | temperature", **k)),
    "cake_by_pairs": ("cake", lambda m, **k: m.emmeans("recipe", by="temperature", **k).pairs()),
    "cake_pairs": ("cake", lambda m, **k: m.emmeans("temperature", **k).pairs()),
    "additive_at": (
        "additive",
        lambda m, **k: m.emmeans("recipe * temp", at={"temp": [180, 200]}, **k),
    ),
    "additive_pairs": ("additive", lambda m, **k: m.emmeans("recipe", **k).pairs()),
    "mixed_trends": ("mixed", lambda m, **k: m.emtrends("recipe", var="temp", **k)),
    "mixed_trend_pairs": ("mixed", lambda m, **k: m.emtrends("recipe", "temp", **k).pairs()),
    "sleep_at": ("sleep", lambda m, **k: m.emmeans("group|Days", at={"Days": [0, 2.5, 9]}, **k)),
    "sleep_overall": ("sleep", lambda m, **k: m.emmeans("~ 1", **k)),
    "equal": ("equal", lambda m, **k: m.emmeans("recipe", **k)),
    "cells": ("equal", lambda m, **k: m.emmeans("recipe", weights="cells", **k)),
    "slopes_oven": ("slopes", lambda m, **k: m.emmeans("oven", **k)),
    "slopes_pairs": ("slopes", lambda m, **k: m.emmeans("oven", **k).pairs()),
    "slopes_moist": ("slopes", lambda m, **k: m.emtrends([], "moist", **k)),
}


def _recipe(m, **kwargs):
    return m.emmeans("recipe", **kwargs)


CUSTOM = {"A vs others": [1, -0.5, -0.5], "half": {"A": 0.5, "B": 0.5}}
SATTERTHWAITE = {
    **{
        f"uneven_{w}": ("uneven", lambda m, w=w: _recipe(m, weights=w))
        for w in ("equal", "proportional", "outer", "cells", "flat")
    },
    "uneven_numbers": ("uneven", lambda m: _recipe(m, weights=[1, 2, 3, 4, 5, 6])),
    "uneven_oven_shelf": ("uneven", lambda m: m.emmeans("oven | shelf", weights="proportional")),
    "uneven_some": (
        "uneven",
        lambda m: _recipe(m, at={"oven": ["old", "new"], "moist": [2, 4]}),
    ),
    "sums": ("sums", lambda m: m.emmeans("~ recipe + shelf")),
    "sums_trend": ("sums", lambda m: m.emtrends("recipe", "moist", at={"moist": 3})),
    "logs": ("logs", lambda m: m.emmeans("~ group | Days", at={"Days": [1, 8]})),
    "logs_trend": ("logs", lambda m: m.emtrends("group", "Days", at={"Days": 3})),
    "shifted": ("shifted", lambda m: _recipe(m)),
    "shifted_pairs": ("shifted", lambda m: _recipe(m).pairs()),
    "holes_cells": ("holes", lambda m: m.emmeans("recipe * oven")),
    "holes_recipe": ("holes", lambda m: _recipe(m)),
    "holes_pairs": ("holes", lambda m: m.emmeans("oven | recipe").pairs("sidak")),
    **{
        f"adjust_{a}": ("cake", lambda m, a=a: m.emmeans("temperature").pairs(adjust=a))
        for a in ("tukey", "scheffe", "sidak", "bonferroni", "holm", "fdr", "by", "none")
    },
    **{
        f"means_{a}": ("uneven", lambda m, a=a: _recipe(m).test(adjust=a))
        for a in ("tukey", "scheffe", "sidak", "bonferroni", "holm")
    },
    **{
        f"method_{k}": ("cake", lambda m, k=k: m.emmeans("temperature").contrast(k))
        for k in (
            *("eff", "del.eff", "poly", "revpairwise", "trt.vs.ctrl", "trt.vs.ctrlk"),
            "consec",
        )
    },
    "method_custom": ("uneven", lambda m: _recipe(m).contrast(CUSTOM)),
    "by_changed": ("uneven", lambda m: m.emmeans("recipe * oven").pairs(by="recipe")),
    "one_sided_left": ("uneven", lambda m: _recipe(m).test(35, side="<")),
    "one_sided_right": ("uneven", lambda m: _recipe(m).test(35, side=">")),
    "one_sided_tukey": ("uneven", lambda m: _recipe(m).pairs().test(side=">")),
    "level": ("uneven", lambda m: _recipe(m).pairs().conf_int(level=0.9)),
    "response": ("logs", lambda m: m.emmeans("group").response()),
    "ratios": ("logs", lambda m: m.emmeans("group").response().pairs()),
    "ratios_below": (
        "logs",
        lambda m: m.emmeans("group").contrast("eff").response().test(0.1, side="<"),
    ),
    "root": ("root", lambda m: m.emmeans("group").response()),
    "root_pairs": ("root", lambda m: m.emmeans("group").response().pairs()),
}
JOINT = {
    "joint_cake": ("cake", lambda m: m.joint_tests()),
    "joint_by": ("cake", lambda m: m.joint_tests(by="recipe")),
    "joint_uneven": ("uneven", lambda m: m.joint_tests()),
    "joint_pairs": ("mixed", lambda m: m.emtrends("recipe", "temp").pairs().test(joint=True)),
    "joint_within": ("uneven", lambda m: m.emmeans("oven | recipe").pairs().test(joint=True)),
}
PRINTED = {
    "means": ("cake", lambda m: _recipe(m)),
    "by": ("cake", lambda m: m.emmeans("~ recipe | temperature")),
    "pairs": ("additive", lambda m: _recipe(m).pairs()),
    "limits": ("additive", lambda m: _recipe(m).pairs().conf_int()),
    "overall": ("cake", lambda m: m.emmeans("1")),
    "trends": ("mixed", lambda m: m.emtrends("recipe", var="temp")),
    "asymptotic": ("mixed", lambda m: _recipe(m, ddf="asymptotic").pairs()),
    "scheffe": ("uneven", lambda m: _recipe(m).test(adjust="scheffe")),
    "null": ("uneven", lambda m: _recipe(m).test(35, side=">", adjust="holm")),
    "level": ("uneven", lambda m: _recipe(m).conf_int(level=0.9, adjust="bonferroni")),
    "control": ("cake", lambda m: m.emmeans("temperature").contrast("trt.vs.ctrl")),
    "numbers": ("additive", lambda m: m.emmeans("temp | recipe", at={"temp": [180, 200.5]})),
    "logs": ("logs", lambda m: m.emmeans("group")),
    "response": ("logs", lambda m: m.emmeans("group").response()),
    "ratios": ("logs", lambda m: m.emmeans("group").pairs().response()),
    "root": ("root", lambda m: m.emmeans("group").response()),
    "root_pairs": ("root", lambda m: m.emmeans("group").pairs()),
    "log_trends": ("logs", lambda m: m.emtrends("group", "Days")),
    "holes": ("holes", lambda m: _recipe(m)),
    "joint": ("cake", lambda m: m.joint_tests()),
}


def frames(cake, sleep):
    """The data sets that the R script makes by the same rules."""
    cake, sleep = cake.copy(), sleep.copy()
    at = np.arange(1, len(cake) + 1)
    cake["oven"] = np.where(at % 4 == 1, "old", np.where(at % 4 == 2, "new", "test"))
    cake["moist"] = ((at * 7) % 11) / 3 + cake["temp"] / 100
    cake["shelf"] = (at // 5) % 2
    cake["w"] = 1 + at % 3
    early = cake["replicate"].astype(str).isin([str(i) for i in range(1, 7)])
    lost = (cake["recipe"] == "B") & (cake["temp"] > 200) & early
    uneven = cake[(at % 7 != 3) & ~lost]
    order = sleep["Subject"].astype("category").cat.codes + 1
    sleep["group"] = np.where(order % 3 == 0, "a", "b")
    return {
        "cake": cake,
        "uneven": uneven,
        "holes": uneven[~((uneven["recipe"] == "C") & (uneven["oven"] == "old"))],
        "sleep": sleep,
    }
