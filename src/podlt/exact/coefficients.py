"""The constants of the elementary functions: part of their definition, each exactly a binary32 or binary64 value.

Highest power first. Sources: Cephes 2.8 single precision (expf, logf, log2f, tanhf, atanf: S. Moshier); N. Juffa's
erff (stackoverflow.com/a/35966120, 2016), evaluated here without fused operations; FreeBSD msun (k_sinf.c, k_cosf.c,
e_rem_pio2f.c) for sin and cos; for erfc our own interpolation at Chebyshev nodes, in the variable of Shepherd and
Laframboise (Mathematics of Computation 36, 1981).
"""

from __future__ import annotations

import numpy as np


def _float32(*values: float) -> tuple[np.float32, ...]:
    return tuple(np.float32(v) for v in values)


LOG2_E = np.float32(1.44269504088896341)
LN2_HIGH = np.float32(0.693359375)  # nine significant bits: n * LN2_HIGH is exact for |n| < 2**15
LN2_LOW = np.float32(-2.12194440e-4)

EXP_LARGEST = np.float32(89.0)
EXP_LEAST = np.float32(-104.0)
EXP = _float32(1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)

EXPM1_BOUND = np.float32(20.0)  # beyond: e**x - 1 rounds to e**x, or to -1

SQRT_HALF = np.float32(0.707106781186547524)
LOG = _float32(
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)

LOG2_E_FRACTION = np.float32(0.44269504088896340736)  # log2(e) - 1

TANH_SMALL = np.float32(0.625)
TANH = _float32(-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)

ERF_SMALL = np.float32(0.927734375)
ERF_NEAR = _float32(
    -5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1
)  # erf(x) = x + x * P(x * x)
ERF_FAR = _float32(
    -1.72853470e-5, 3.83197126e-4, -3.88396438e-3, 2.42546219e-2, -1.06777877e-1, -6.34846687e-1, -1.28717512e-1
)  # erf(x) = 1 - exp(P(x) * x - x) for x > 0

ERFC_LARGEST = 10.5  # beyond: below half of the least float32
ERFC = (
    1.9226664485216818e-05,
    0.00011888200833522489,
    0.0001660563550600092,
    -0.0004490260657812306,
    -0.0014343819948141434,
    0.0012743819860502057,
    0.008717123475845474,
    -0.008035221724056732,
    -0.05421938488710231,
    0.16405141219247893,
    -0.1660304232740695,
    -0.09276383020458598,
    1.2769783817334728,
)  # (1 + 2 x) exp(x * x) erfc(x) = P((x - 2) / (x + 2)) for x >= 0, to 3.7e-10

ATAN_LARGE, ATAN_MIDDLE = np.float32(2.414213562373095), np.float32(0.414213562373095)
HALF_PI, QUARTER_PI = np.float32(1.5707963267948966), np.float32(0.7853981633974483)
ATAN = _float32(8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1)

SQRT_TWO_OVER_PI = np.float32(0.797884560802865356)
INVERSE_SQRT_TWO_PI = np.float32(0.398942280401432678)
GELU_CUBIC = np.float32(0.044715)

TWO_OVER_PI = 0.63661977236758134308
HALF_PI_HIGH = 1.57079631090164184570  # 25 significant bits: n * HALF_PI_HIGH is exact for |n| < 2**28
HALF_PI_LOW = 1.58932547735281966916e-8
ANGLE_LIMIT = np.float32(524288.0)
SIN = (0.0000027183114939898219064, -0.000198393348360966317347, 0.0083333293858894631756, -0.166666666416265235595)
COS = (0.0000243904487962774090654, -0.00138867637746099294692, 0.0416666233237390631894, -0.499999997251031003120)

LN2 = 0.693147180559945309417
INVERSE_LN2 = 1.44269504088896340736
LARGEST_INTEGER_POWER = 64
