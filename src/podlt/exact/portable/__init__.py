"""The exact table in plain torch operations, for CUDA and for any other device that torch has.

Every step is one IEEE operation or an integer operation of torch, each a kernel of its own, so that no compiler can
contract a product and a sum into one rounding. What torch does not promise to round correctly, or leaves to the
device, is not used: division by a Python number (CUDA multiplies by the reciprocal), `alpha=`, `addcmul`, `lerp`,
`reciprocal`, float32 `sqrt` (a vector library on the CPU), `maximum` and `amax` of zeros of both signs, conversions of
what does not fit an int64, `exp` and its kin, float32 matrix products (TF32) and sums of floats in any order.

It runs on the CPU as well, slowly, and is tested there, bit for bit against the definitions and the CPU's own backend.
"""
