"""Depth-wise convolution by CUDA kernels of our own, for NVIDIA GPUs.

The kernels are CUDA C++ (`kernels/`), shipped as text. `plan` and `matrix_plan` choose a kernel for a
shape, `nvrtc` compiles it while JAX traces, and `ptx_call` hands the result to XLA, which launches
it: nothing has to be built or registered, and programs compile ahead of time without a GPU. The
same sources run on CPU under `emulation`, which is how they are tested.

Not run on hardware yet, so `lowering="auto"` leaves GPUs to XLA; `lowering="cuda"` selects them.
"""
