"""Kernels for GPUs, in Triton: the primitives whose many launches cost the portable table most, each in one or two.

What is not here is computed by `exact.portable`, primitive by primitive, so that the table is complete. Needs Triton
(`pip install '.[gpu]'`); under TRITON_INTERPRET=1 its interpreter runs the same kernels on the CPU.

What keeps the bits, and how it was looked at (tests/exact/test_triton_code.py reads the PTX that is compiled, which
needs no GPU):

* `enable_fp_fusion=False` at every launch: without it a product and a sum become one `fma`. With it LLVM writes
  `mul.rn` and `add.rn`, which no later step contracts, and ptxas is called with --fmad=false.
* `tl.div_rn` and `tl.sqrt_rn`: `/` is `div.full` (2 ulp), `tl.sqrt` is `sqrt.approx`, and `tl.exp` and its kin are
  approximations of the device; none of them is used. No instruction flushes subnormals (`.ftz`).
* Sums of floats are taken of whole numbers only, as int64; products by tensor cores are whole numbers in int32, or in
  float32 as long as every partial sum is below 2**24.
"""
