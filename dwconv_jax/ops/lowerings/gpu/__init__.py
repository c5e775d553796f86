"""Depth-wise convolution and neighborhood attention by CUDA kernels of our own, for NVIDIA GPUs.

The kernels are CUDA C++ (`kernels/`), shipped as text. `choice`, or `attention_kernels`, finds a
plan for a shape, `nvrtc` compiles its kernel while JAX traces, and `ptx_call` hands the result to
XLA, which launches it: nothing is built or registered, and programs compile ahead of time without a
GPU. Under `emulation`, the same sources run on CPU; that is how they are tested.

| kernel | what a thread does | covers |
|---|---|---|
| `slide` | holds `kh` output rows of 7 columns and walks down the map | kernels up to 13x13 |
| `tile` | holds 4x8 outputs; taps pass through shared memory | kernels up to 63 columns |
| `gradient` | holds the sums of 49 taps and walks over the map | kernels up to 63 columns |
| `toeplitz` | multiplies maps by banded matrices of taps | bfloat16, `C` by 8, dilation 1 |
| `toeplitz_gradient` | multiplies maps and sums diagonals | bfloat16, `C` by 8, dilation 1 |
| `neighborhood` | attends: a warp has 16 queries, and keys in shared memory | heads of 16 to 128 |
| `neighborhood_query_gradient` | recomputes the weights; in biases too | the same |
| `neighborhood_key_gradient` | the same with keys and queries exchanged; in values too | the same |

Sums are float32, in a fixed order. The gradient in the maps is the convolution by the reversed
kernel; gradients summed over images are partial sums of blocks, which XLA adds. Attention runs on
the matrix unit in both dtypes: a float32 is the sum of three bfloat16.

Not run on hardware yet, so `lowering="auto"` leaves GPUs to XLA; `lowering="cuda"` selects them.
"""
