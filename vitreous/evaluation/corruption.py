"""Images made worse on purpose: 15 kinds at 5 strengths, in the manner of CIFAR-10-C.

Kinds are those of Hendrycks and Dietterich 2019 (section 4.1), strengths near theirs for 32-pixel images; lengths in
pixels grow with the image. Each kind is computed here for a whole batch at once, frost without their photographs, and
every strength changes more than the one before. So accuracies are not those on the published files.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vitreous.errors import InputError, unknown
from vitreous.evaluation.corruption_blur import defocus_blur, glass_blur, motion_blur, zoom_blur
from vitreous.evaluation.corruption_digital import contrast, elastic, jpeg, pixelate
from vitreous.evaluation.corruption_noise import gaussian_noise, impulse_noise, shot_noise
from vitreous.evaluation.corruption_weather import brightness, fog, frost, snow
from vitreous.runtime import seed_for

STRENGTHS = (1, 2, 3, 4, 5)
AT_ONCE = 100
"""Images that share a stream of random numbers; they are corrupted together."""


@dataclass(frozen=True)
class Kind:
    """One way to make an image worse: `corrupt(images, strength, random)`, float32 0 to 1 in and out."""

    group: str
    corrupt: Callable[[Tensor, int, torch.Generator], Tensor]


KINDS: dict[str, Kind] = {
    "gaussian noise": Kind("noise", gaussian_noise),
    "shot noise": Kind("noise", shot_noise),
    "impulse noise": Kind("noise", impulse_noise),
    "defocus blur": Kind("blur", defocus_blur),
    "glass blur": Kind("blur", glass_blur),
    "motion blur": Kind("blur", motion_blur),
    "zoom blur": Kind("blur", zoom_blur),
    "snow": Kind("weather", snow),
    "frost": Kind("weather", frost),
    "fog": Kind("weather", fog),
    "brightness": Kind("weather", brightness),
    "contrast": Kind("digital", contrast),
    "elastic": Kind("digital", elastic),
    "pixelate": Kind("digital", pixelate),
    "jpeg": Kind("digital", jpeg),
}
"""The kinds by name, in the paper's order."""


def corrupt(images_u8: Tensor, kind: str, strength: int, seed: int = 0, first: int = 0) -> Tensor:
    """Images, uint8 (count, 1 or 3 channels, height, width), made worse: the same shape and type, on the same device.

    Strength 0 leaves them as they are. What is random depends on the kind, the seed and an image's place alone:
    `first` is the place of the first one here in the whole set, a multiple of 100. All strengths of a kind share it.

    Raises:
        InputError: there is no such kind or strength.
    """
    if kind not in KINDS:
        raise unknown("corruption", kind, KINDS)
    if strength not in (0, *STRENGTHS):
        raise InputError(f"there is no strength {strength}: choose 1 to 5, or 0 for the image as it is")
    assert images_u8.dtype == torch.uint8 and images_u8.ndim == 4 and images_u8.shape[1] in (1, 3), images_u8.shape
    assert first % AT_ONCE == 0, first
    if strength == 0:
        return images_u8
    parts = []
    for start in range(0, len(images_u8), AT_ONCE):
        random = torch.Generator().manual_seed(seed_for(seed, "corruption", kind, first + start))
        images = images_u8[start : start + AT_ONCE].float() / 255
        worse = KINDS[kind].corrupt(images.cpu(), strength, random)
        parts.append((worse.clamp(0, 1) * 255).round().to(torch.uint8))
    return torch.cat(parts).to(images_u8.device)
