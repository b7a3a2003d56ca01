"""First and second derivatives of a single factor's elimination, in closed form.

With ``Sigma = Lambda Lambda'``, and ``K = (I + R Sigma R')^-1``, ``Q = K R``, ``N = R'K R`` of each
pattern,

    d K = -Q Sigma_i Q',         d2 K = Q (Sigma_i N Sigma_j + Sigma_j N Sigma_i - Sigma_ij) Q',
    d log|V| = tr(N Sigma_i),    d2 log|V| = tr(N Sigma_ij) - tr(N Sigma_i N Sigma_j),

so sums over patterns of ``N``, ``N (x) N``, ``Q'M Q`` and ``N (x) Q'M Q`` serve all pairs of
parameters. For many coefficients a group (21 parameters for six) this replaces hundreds of
forward-mode directions.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array

from lmmjax.covariance import Covariance
from lmmjax.likelihood import smallblock
from lmmjax.likelihood.crossproducts import lambda_factors
from lmmjax.likelihood.jet import Jet, jet
from lmmjax.likelihood.moments import MomentBlocks, symmetric_positions


def moments_jet(
    engine: MomentBlocks, bars: tuple[Covariance, ...], theta: Array
) -> tuple[Jet, Jet]:
    """Derivatives of ``log|V|`` and of ``[X y]'V^-1[X y]`` in theta, for one grouping factor.

    Parameters
    ----------
    engine : MomentBlocks
        Without remaining terms.
    bars : tuple of Covariance
        Structures of the factor's bars.
    theta : Array, shape (m,)

    Returns
    -------
    tuple of Jet
    """
    factor = jet(lambda t: lambda_factors((bars,), t)[0], theta)
    F = factor.value
    F1 = jnp.moveaxis(factor.first, -1, 0)
    F2 = jnp.moveaxis(factor.second, (-2, -1), (0, 1))
    half = F1 @ F.T
    S1 = half + jnp.swapaxes(half, -1, -2)
    half = F2 @ F.T + jnp.einsum("iab,jcb->ijac", F1, F1)
    S2 = half + jnp.swapaxes(half, -1, -2)

    k, w = F.shape[0], engine.within.shape[0]
    root = jnp.asarray(engine.root)
    inverse, logdets = smallblock.shrinkage(root, F)
    K = jnp.einsum("xad,xbd->abd", inverse, inverse)
    Q = jnp.einsum("abd,bcd->acd", K, root)
    N = jnp.einsum("bad,bcd->acd", root, Q)
    # Off-diagonal entries hold both halves: split them again.
    share = np.where(np.eye(k, dtype=bool), 1.0, 0.5)[..., None, None]
    packed = jnp.asarray(engine.moments).reshape(-1, root.shape[2], w * w)
    M = packed[symmetric_positions(k)] * jnp.asarray(share, root.dtype)
    T = jnp.einsum("axd,aydw->xydw", Q, jnp.einsum("abdw,byd->aydw", M, Q))
    T_sum = jnp.sum(T, axis=2)
    NT = jnp.einsum("bcd,aedw->abcew", N, T)
    NN = jnp.einsum("bcd,ead,d->abce", N, N, engine.count)
    N_sum = N @ engine.count

    gram_value = engine.within.reshape(-1) + jnp.einsum("abd,abdw->w", K, M)
    gram_first = -jnp.einsum("iab,abw->wi", S1, T_sum)
    cross = jnp.einsum("jce,icew->wij", S1, jnp.einsum("iab,abcew->icew", S1, NT))
    gram_second = cross + jnp.swapaxes(cross, 1, 2) - jnp.einsum("ijab,abw->wij", S2, T_sum)
    logdet = Jet(
        jnp.sum(engine.count * logdets),
        jnp.einsum("iab,ab->i", S1, N_sum),
        jnp.einsum("ijab,ab->ij", S2, N_sum) - jnp.einsum("iab,abce,jce->ij", S1, NN, S1),
    )
    m = theta.shape[0]
    gram = Jet(
        gram_value.reshape(w, w),
        gram_first.reshape(w, w, m),
        gram_second.reshape(w, w, m, m),
    )
    return logdet, gram
