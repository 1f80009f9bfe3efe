"""The arithmetic of matrix products and convolutions on a GPU, for the length of a block."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Compute in one precision, and with algorithms that give the same numbers every time.

    torch's own setting multiplies convolutions in TF32 and products of matrices in float32. On a
    CPU the block changes nothing.

    Args:
        precision: "float32", or "tf32", which rounds the operands of products to 10 bits of
            mantissa, on GPUs since Ampere.
    """
    if not torch.cuda.is_available():
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer releases of torch have another name for it too
        before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark
        tf32 = precision == "tf32"
        try:
            cudnn.allow_tf32 = matmul.allow_tf32 = tf32
            cudnn.deterministic, cudnn.benchmark = True, False
            yield
        finally:
            cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark = before


def products() -> tuple[bool, ...]:
    """Return the settings of products on a GPU, which a CUDA graph fixes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        autocast = torch.is_autocast_enabled("cuda")
        return cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, autocast


def rounds_convolutions() -> bool:
    """Whether a GPU rounds the operands of float32 convolutions, as torch does by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.backends.cudnn.allow_tf32


def rounds_matrices() -> bool:
    """Whether a GPU rounds the operands of products of float32 matrices."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(torch.backends.cuda.matmul.allow_tf32)
