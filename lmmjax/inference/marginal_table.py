"""Tables of means and contrasts: estimates, intervals, tests, and what is to be said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.inference.multiplicity import adjusted_p, critical_values

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.inference.marginal_estimates import MarginalEstimates


def table_of(estimates: MarginalEstimates) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table that an object asks for, and the lines under it, in emmeans' words."""
    import pandas as pd

    est = estimates.estimates
    se, df = estimates.errors_and_df
    known = np.isfinite(df)
    normal = not known.any()
    columns: dict[str, Any] = {estimates.estimate_name: est, "SE": se, "df": df}
    said = [f"Degrees-of-freedom method: {estimates.ddf}"]
    if estimates.averaged_over:
        said.insert(
            0, "Results are averaged over the levels of: " + ", ".join(estimates.averaged_over)
        )
    back = estimates.scale if estimates.back else None
    if back:
        columns[estimates.estimate_name], columns["SE"] = back.back(est), back.rate(est) * se
    elif estimates.scale:
        said.append(f"Results are given on the {estimates.scale.name} (not the response) scale.")
    if estimates.interval:
        half, more = critical_values(
            estimates.level, df, estimates.adjust, estimates.family, estimates.side
        )
        low = est - half * se if estimates.side >= 0 else np.full(est.shape, -np.inf)
        high = est + half * se if estimates.side <= 0 else np.full(est.shape, np.inf)
        names = ("asymp.LCL", "asymp.UCL") if normal else ("lower.CL", "upper.CL")
        said += [f"Confidence level used: {estimates.level:g}", *more]
        if back:
            low, high = back.limit(low), back.limit(high)
            said.append(f"Intervals are back-transformed from the {back.name} scale")
        columns |= dict(zip(names, (low, high), strict=True))
    if estimates.tested:
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (est - estimates.null) / se
        p, more = adjusted_p(t, df, estimates.adjust, estimates.family, estimates.side)
        null = np.full(est.shape, estimates.null)
        null = back.back(null) if back else null
        if null.any():
            columns["null"] = null
        columns["z.ratio" if normal else "t.ratio"] = t
        columns["p.value"] = p
        said += more
        if estimates.side:
            said.append(f"P values are {'left' if estimates.side < 0 else 'right'}-tailed")
        if back:
            said.append(f"Tests are performed on the {back.name} scale")
    # What the intervals and the tests say alike is said once.
    messages = tuple(dict.fromkeys((*estimates.notes, *said)))
    numbers = pd.DataFrame(columns, index=estimates.labels.index)
    return pd.concat([estimates.labels, numbers], axis=1), messages
