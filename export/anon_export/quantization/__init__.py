"""A UNet in fp32 -> one in bf16 or int8, calibrated on the loop of its own bundle, and what that costs."""
