"""Intervals of a fit's parameters and of what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from lmmjax.estimates import Estimates

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.reading.profile import Profile


class Intervals(Estimates):
    """Methods that say how sure an estimate is."""

    def conf_int(
        self,
        level: float = 0.95,
        method: Literal["wald", "wald-z", "profile", "bootstrap"] = "wald",
        which: Literal["fixed", "random", "all"] | None = None,
        *,
        type: Literal["percentile", "basic", "normal", "bca"] | None = None,
        n: int | None = None,
        key: Any = None,
        progress: bool = False,
    ) -> pd.DataFrame:
        """Confidence intervals of the parameters.

        Parameters
        ----------
        level : float, default 0.95
        method : {"wald", "wald-z", "profile", "bootstrap"}, default "wald"
            ``"wald"``: estimate ± quantile x standard error, with the quantile of Student's t with
            Satterthwaite's degrees of freedom, which agrees with the p values. ``"wald-z"``: with
            that of the normal distribution, as ``confint(method = "Wald")`` in lme4. Both take
            standard deviations on a log scale and correlations on Fisher's. ``"profile"``: by the
            profile likelihood (see :meth:`profile`), the best of them for variance components.
            ``"bootstrap"``: from parametric replicates; :meth:`bootstrap` has other kinds.
        which : {"fixed", "random", "all"}, optional
            Fixed effects; standard deviations and correlations, sigma among them; or both, the
            latter first, as lme4 orders them. By default fixed effects for Wald intervals, all
            parameters for the others.
        type : {"percentile", "basic", "normal", "bca"}, optional
            How intervals are read from bootstrap replicates, by default as percentiles.
        n : int, optional
            Number of bootstrap replicates, by default 1,000.
        key : int or Array, optional
            Seed of the bootstrap, 0 by default, or a JAX random key.
        progress : bool, default False
            Whether to show how far the bootstrap is, with tqdm where that is installed.

        Returns
        -------
        pandas.DataFrame
            Columns ``lower`` and ``upper``, one row a parameter. Wald intervals are NaN for a
            variance on its boundary.

        Raises
        ------
        LmmError
            If `level` does not lie between 0 and 1, a choice is unknown, or something of the
            bootstrap is asked for with another method.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> fit.conf_int().round(2)
                      lower   upper
        (Intercept)  237.01  265.80
        Days           7.21   13.73
        >>> fit.conf_int(method="profile").round(3)
                                        lower    upper
        sd_(Intercept)|Subject         14.381   37.716
        cor_Days.(Intercept)|Subject   -0.481    0.685
        sd_Days|Subject                 3.801    8.753
        sigma                          22.898   28.858
        (Intercept)                   237.681  265.130
        Days                            7.359   13.576
        """
        from lmmjax.reading.profile import intervals

        options = {"type": type, "n": n, "key": key, "progress": progress or None}
        return intervals(self, level, method, which, options)

    def profile(
        self, level: float = 0.99, parameters: str | Sequence[str] | None = None
    ) -> Profile:
        """Profile likelihood of every parameter.

        Each parameter is held at a series of values, and all others are fitted again at each of
        them. REML criteria of different fixed effects cannot be compared, so a REML fit is
        refitted by maximum likelihood first, as lme4 does; the profile says so.

        Parameters
        ----------
        level : float, default 0.99
            How far to go: as far as intervals of this level need.
        parameters : str or sequence of str, optional
            Names, as printed; by default all.

        Returns
        -------
        Profile
            ``frame`` has all points with ``zeta``, the signed root of the deviance's increase;
            ``conf_int()`` gives intervals, ``plot()`` draws.

        Raises
        ------
        LmmError
            If `level` does not lie between 0 and 1, a name is unknown, or a covariance structure
            has no standard deviations and correlations of its own.

        Warns
        -----
        ConvergenceWarning
            A profile could not be followed to its end, or is not monotone.

        Notes
        -----
        Bates & Watts (1988), Nonlinear Regression Analysis and Its Applications, chapter 6; Bates,
        Maechler, Bolker & Walker (2015), J. Stat. Softw. 67(1), section 5.1.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
        >>> profile = fit.profile(0.95)
        >>> profile.frame.iloc[:3].round(2)
                      parameter  value  zeta  sd_(Intercept)|Batch  sigma  (Intercept)
        0  sd_(Intercept)|Batch  12.20 -1.96                 12.20  57.79       1527.5
        1  sd_(Intercept)|Batch  17.04 -1.62                 17.04  54.88       1527.5
        2  sd_(Intercept)|Batch  20.97 -1.30                 20.97  52.87       1527.5
        """
        from lmmjax.reading.profile import profile_of

        return profile_of(self, level, parameters)
