"""A row of the variant table as a timm network with the same parameter names."""

from __future__ import annotations

from timm.models.nfnet import NfCfg, NormFreeNet

from fixtures.nfnet.variants import Architecture, Variant


def timm_network(row: Variant) -> NormFreeNet:
    """Return the network of a row, freshly initialised."""
    return NormFreeNet(timm_config(row.architecture), num_classes=row.classes)


def timm_config(arch: Architecture) -> NfCfg:
    """Return the architecture as a timm configuration."""
    return NfCfg(
        depths=arch.depths,
        channels=arch.channels,
        alpha=arch.alpha,
        stem_type=arch.stem,
        stem_chs=arch.stem_channels,
        group_size=arch.group_size,
        attn_layer=arch.attention,
        attn_kwargs={"rd_ratio": arch.se_ratio, "rd_divisor": 8} if arch.attention == "se" else {},
        attn_gain=arch.attention_gain,
        width_factor=arch.width_factor,
        bottle_ratio=arch.bottle_ratio,
        num_features=arch.head_channels,
        reg=arch.regnet,
        extra_conv=arch.extra_conv,
        gamma_in_act=arch.gamma_in_activation,
        same_padding=arch.same_padding,
        std_conv_eps=arch.eps,
        skipinit=arch.skipinit,
        act_layer=arch.activation,
    )
