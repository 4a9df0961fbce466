"""How far the engine's logits may lie from the oracle's: the median over positions of relative L2.

Medians, because random weights route near ties, and rounding flips some of them.
"""

EXACT_FROM_PLAIN = 1e-3  # what a cache in half precision and fixed-point inputs cost
EXACT_FROM_ROUNDED = 5e-4  # the order of float32 sums, amplified by rounding
F32_FROM_PLAIN = 1e-5
F32_FROM_PLAIN_PAST_4096 = 5e-4  # float32 rotary angles are off by 1e-7 times the position
