"""Affine maps and exact GELU with derivatives written by hand.

Both give what automatic differentiation gives. Left to itself, XLA's CPU backend transposes the
output's gradient before each kernel's gradient and evaluates the residual stream's gradient anew
for it, layer after layer; and the derivative of GELU keeps three arrays where one is enough.
"""

import math

import jax
import jax.numpy as jnp

__all__ = ["affine", "gelu"]

Array = jax.Array


@jax.custom_vjp
def affine(inputs: Array, kernel: Array, bias: Array) -> Array:
    """inputs @ kernel + bias.

    Args:
        inputs: shape (..., n).
        kernel: shape (n, m).
        bias: shape (m,).

    Returns:
        Shape (..., m).
    """
    return inputs @ kernel + bias


def _affine_forward(inputs: Array, kernel: Array, bias: Array) -> tuple[Array, tuple[Array, Array]]:
    return inputs @ kernel + bias, (inputs, kernel)


def _affine_backward(kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array, Array]:
    inputs, kernel = kept
    rows, columns = inputs.reshape(-1, inputs.shape[-1]), slope.reshape(-1, slope.shape[-1])
    by_kernel = jax.lax.dot_general(rows, columns, (((0,), (0,)), ((), ())))
    return slope @ kernel.T, by_kernel, columns.sum(axis=0)


affine.defvjp(_affine_forward, _affine_backward)


@jax.custom_vjp
def gelu(x: Array) -> Array:
    """x Phi(x), Phi the normal distribution function (arXiv:1606.08415), not its tanh surrogate."""
    return x * _normal_cdf(x)


def _normal_cdf(x: Array) -> Array:
    return 0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5)))


def _gelu_forward(x: Array) -> tuple[Array, Array]:
    return gelu(x), x


def _gelu_backward(x: Array, slope: Array) -> tuple[Array]:
    density = jnp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return (slope * (_normal_cdf(x) + x * density),)


gelu.defvjp(_gelu_forward, _gelu_backward)


@jax.custom_vjp
def unstacked(qkv: Array) -> tuple[Array, Array, Array]:
    """The three slices along axis 2.

    Args:
        qkv: shape (batch, tokens, 3, heads, d).

    Returns:
        Queries, keys and values, each of shape (batch, tokens, heads, d).
    """
    return qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]


def _unstacked_forward(qkv: Array) -> tuple[tuple[Array, Array, Array], None]:
    return unstacked(qkv), None


def _unstacked_backward(_: None, slopes: tuple[Array, Array, Array]) -> tuple[Array]:
    return (jnp.stack(slopes, axis=2),)


unstacked.defvjp(_unstacked_forward, _unstacked_backward)
