"""Spiking neurons for torch: step equations, and fast layers that are differentiable twice.

`neurons` has the equations. `recurrence` and `recurrence_triton` run them over time, as loops and
as GPU kernels. `autograd` gives both their gradients; `fft_conv` is a faster convolution of small
frames on a CPU.
"""
