"""Leaves that belong to the experiments of the paper, as group/leaf patterns."""

PAPER = (
    "autoencoder/f*", "bottleneck/kl_*", "bottleneck/vq_*", "conditioner/bert*",
    "conditioner/class_*", "conditioner/layout", "conditioner/mask_*", "discriminator/patch_*",
    "guidance/classifier_free_*", "sampler/ddim_*", "schedule/scaled_linear_*", "network/ldm*",
)  # fmt: skip
