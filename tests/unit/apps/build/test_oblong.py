"""Every kind of condition goes with images that are no squares."""

from __future__ import annotations

import pytest

from ldmlab.apps.build.check import check_experiment
from ldmlab.apps.build.meta import draw_blueprint
from ldmlab.apps.config.compose import compose
from ldmlab.core.errors import UserError

CONDITIONS = ("mask", "low_resolution", "masked_image")


@pytest.mark.parametrize("conditioner", CONDITIONS)
def test_oblong_images_go_through_every_part(conditioner: str) -> None:
    words = [f"conditioner={conditioner}", "data.image_size=[32,64]", "data.num_mask_labels=5"]
    drawn = draw_blueprint(compose(words))
    assert drawn.latent_shape[1:] == (32 // drawn.codec.factor, 64 // drawn.codec.factor)
    square = draw_blueprint(compose([f"conditioner={conditioner}", *words[2:]]))
    # Twice the pixels, at twice the cost of everything but attention.
    assert 1.9 < drawn.cost("unet").flops / square.cost("unet").flops < 2.5
    assert drawn.cost("decode").flops > 1.9 * square.cost("decode").flops


def test_either_side_has_to_divide() -> None:
    check_experiment(compose(["data.image_size=[32,64]"]))
    for size in ("[32,20]", "[20,32]"):
        with pytest.raises(UserError, match=r"do not divide|does not divide"):
            check_experiment(compose([f"data.image_size={size}"]))
