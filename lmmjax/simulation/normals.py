"""Normal and chi-squared deviates, by the million: a counter-based generator written out.

Each replicate of a study has the key ``fold_in(key, replicate)``, and its deviates are a hash of
that key and a counter. So a replicate is the same data whatever is computed beside it. The hash is
threefry, also for keys of another kind: XLA's other generators are slower on a CPU, and under
``vmap`` they draw what depends on the batch.

Deviates come from 32 random bits each. They have 24 significant bits, and none exceeds 6.66.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.random import threefry_2x32

from lmmjax.errors import LmmError
from lmmjax.precision import double_precision

#: Set in the second word of every counter: ``fold_in`` and ``split`` hash counters without it.
COUNTER = np.uint32(1 << 31)
#: Proposals for a chi-squared deviate that are made at once.
PROPOSALS = 3


def as_key(key: Any) -> Array:
    """A key for this package, of a seed or of any JAX key.

    Parameters
    ----------
    key : int or Array
        A seed, a typed key, or a raw one.

    Returns
    -------
    Array
        A typed key of the threefry kind.

    Raises
    ------
    LmmError
        If it is neither.

    Examples
    --------
    >>> as_key(1).dtype == as_key(jax.random.key(1)).dtype
    True
    """
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        if not 0 <= key < 2**63:
            raise LmmError(f"a seed must be at least 0 and below 2**63, not {key}")
        with double_precision():
            return jax.random.key(int(key), impl="threefry2x32")
    if isinstance(key, (jax.Array, np.ndarray)):
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        words = jax.random.key_data(jnp.asarray(key)) if typed else jnp.asarray(key)
        if words.dtype == jnp.uint32 and words.ndim == 1 and words.shape[0] >= 2:
            return jax.random.wrap_key_data(words[:2], impl="threefry2x32")
    raise LmmError(f"key must be a seed (an int) or a JAX random key, not {key!r}")


def random_words(key: Array, count: int, stream: Array | int = 0) -> tuple[Array, Array]:
    """Two arrays of random 32-bit words, each of shape (count,); streams of a key are independent.

    ``stream`` is a number below 2**31.
    """
    low = jnp.arange(count, dtype=jnp.uint32)
    high = jnp.full(count, COUNTER, jnp.uint32) + jnp.asarray(stream, jnp.uint32)
    words = threefry_2x32(jax.random.key_data(key), jnp.concatenate([low, high]))
    return words[:count], words[count:]


def uniform(words: Array) -> Array:
    """Uniform deviates in (0, 1], in 32 bits, with full precision near 0."""
    return words.astype(jnp.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)


def standard_normals(key: Array, count: int, stream: Array | int = 0) -> Array:
    """Independent standard normal deviates.

    Parameters
    ----------
    key : Array
        Of the threefry kind, see :func:`as_key`.
    count : int
    stream : int or Array, scalar
        Streams of one key are independent.

    Returns
    -------
    Array, shape (count,)
        In 32 bits.

    Notes
    -----
    Box and Muller (1958), Ann. Math. Statist. 29, 610-611. Sine and cosine are polynomials on an
    eighth of a turn, which the angle's bits are reduced to without rounding; twice as quick on a
    CPU as JAX's inverse error function.
    """
    half = (count + 1) // 2
    return _box_muller(*random_words(key, half, stream))[:count]


def _box_muller(first: Array, second: Array) -> Array:
    """Two normal deviates from each pair of random words."""
    radius = jnp.sqrt(-2.0 * jnp.log(uniform(first)))
    # Two bits choose the quarter turn; the others, signed, the angle from its middle line.
    quarter = second >> 30
    angle = jax.lax.bitcast_convert_type(second << 2, jnp.int32).astype(jnp.float32)
    angle = angle * np.float32(np.pi / 2.0 * 2.0**-32)
    square = angle * angle
    sine = angle * (
        1.0 + square * (-1 / 6 + square * (1 / 120 + square * (-1 / 5040 + square / 362880)))
    )
    cosine = 1.0 + square * (-1 / 2 + square * (1 / 24 + square * (-1 / 720 + square / 40320)))
    swap = (quarter & 1) == 1
    x = jnp.where(swap, sine, cosine) * jnp.where((quarter == 1) | (quarter == 2), -radius, radius)
    y = jnp.where(swap, cosine, sine) * jnp.where(quarter >= 2, -radius, radius)
    return jnp.concatenate([x, y])


def chi_squared(key: Array, df: Array, stream: int = 0) -> Array:
    """Independent chi-squared deviates.

    Parameters
    ----------
    key : Array
        Of the threefry kind, see :func:`as_key`.
    df : Array, shape (c,)
        Degrees of freedom; 0 gives 0.
    stream : int
        The first of the streams used.

    Returns
    -------
    Array, shape (c,)
        In the dtype of `df`.

    Notes
    -----
    Marsaglia & Tsang (2000), ACM Trans. Math. Softw. 26, 363-372: exact, by rejection. Nearly
    always one of the proposals made at once is accepted, so that the loop runs once.
    """
    count = df.shape[0]
    if not count:
        return df
    shape = jnp.where(df < 2, 0.5 * df + 1.0, 0.5 * df)
    d = shape - 1 / 3
    # Whether a proposal is accepted is found in 32 bits, like the deviates.
    d32 = d.astype(jnp.float32)
    c = 1.0 / jnp.sqrt(9.0 * d32)

    proposed = PROPOSALS * count
    half = (proposed + 1) // 2
    uniforms = (proposed + count + 1) // 2

    def propose(state: tuple[Array, ...]) -> tuple[Array, ...]:
        found, excess, boost, used = state
        # One call of the hash for all: two words for two normals, then uniforms.
        first, second = random_words(key, half + uniforms, used)
        x = _box_muller(first[:half], second[:half])
        u = uniform(jnp.concatenate([first[half:], second[half:]]))
        limit = jnp.log(u[:proposed]).reshape(PROPOSALS, count)
        boost = jnp.where(found, boost, u[proposed : proposed + count])
        x = x[:proposed].reshape(PROPOSALS, count)
        w = c * x
        positive = w > -1.0
        log_v = 3.0 * jnp.log1p(jnp.where(positive, w, 0.0))
        over = w * (3.0 + w * (3.0 + w))  # v - 1
        accept = positive & (limit < 0.5 * x * x + d32 * (log_v - over))
        for i in range(PROPOSALS):
            excess = jnp.where(accept[i] & ~found, over[i], excess)
            found = found | accept[i]
        return found, excess, boost, used + 1

    zero = jnp.zeros(count, jnp.float32)
    state = (jnp.zeros(count, bool), zero, zero, jnp.asarray(stream, jnp.uint32))
    _, excess, boost, _ = jax.lax.while_loop(lambda state: ~jnp.all(state[0]), propose, state)
    value = d * (1.0 + excess.astype(df.dtype))
    # Below 2 degrees of freedom: those of df + 2, shrunk by a power of a uniform deviate.
    power = 2.0 / jnp.maximum(df, 1e-3)
    shrink = jnp.where(df < 2, boost.astype(df.dtype) ** power, 1.0)
    return jnp.where(df > 0, 2.0 * value * shrink, 0.0)
