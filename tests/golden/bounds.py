"""How far the engine's logits may lie from the oracle's: the median over positions of relative L2.

Medians, because random weights route near ties, and rounding flips some of them.
"""

EXACT_FROM_PLAIN = 1e-3  # what a cache in half precision and fixed-point inputs cost
EXACT_FROM_ROUNDED = 5e-4  # the order of float32 sums, amplified by rounding
F32_FROM_PLAIN = 1e-5
F32_FROM_PLAIN_PAST_4096 = 5e-4  # float32 rotary angles are off by 1e-7 times the position
INT8_FROM_PLAIN = 6e-2  # 8-bit integers in blocks of 32, on toys of a few blocks
INT8_FROM_PLAIN_FULL_WIDTH = 3.3e-2  # what llama.cpp's Q8_0 costs
# A float32 sum in another order rounds to another integer here and there, which later layers
# amplify; where none does the distance is 2e-7.
INT8_FROM_ROUNDED = 2e-2
# Inputs of products, keys, values and probabilities in half precision (11 bits).
CUDA_FROM_PLAIN = 1e-3
CUDA_FROM_ROUNDED = 1e-3
CUDA_INT8_FROM_PLAIN = 3e-2  # 8-bit weights alone
CUDA_INT8_FROM_ROUNDED = 1e-3  # from float64 with the same weights
