"""The fused operations: each validates, chooses a backend and is differentiable twice."""

from fastgan.ops.bias_act import bias_act
from fastgan.ops.class_loss import class_loss
from fastgan.ops.conv_pool import conv_pool
from fastgan.ops.gan_loss import gan_loss
from fastgan.ops.norm_act import norm_act
from fastgan.ops.resize_conv import resize_conv

__all__ = ["bias_act", "class_loss", "conv_pool", "gan_loss", "norm_act", "resize_conv"]
