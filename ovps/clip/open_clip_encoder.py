"""Any model of open_clip as an `Encoder`, the demo CLIP among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ovps.clip import demo
from ovps.clip.dense import DenseEncoder, dense_encoder
from ovps.clip.loading import Clip, check_known, load_clip
from ovps.clip.protocol import AT_ONCE, Reading, WeightsId
from ovps.errors import FrameError
from ovps.geometry.cells import CellGrid

TEXTS = 256  # through the text tower at once
IMAGES = 32  # whole images through the image tower at once, each of the size it was trained on


@dataclass(frozen=True, eq=False)
class OpenClipEncoder:
    """`ovps.clip.protocol.Encoder` of a loaded model, on the device the model lies on.

    On a GPU, images go through it `AT_ONCE` and in bfloat16; on a CPU one by one.

    Attributes:
        upscale: images are enlarged by this factor before they are encoded.
    """

    clip: Clip
    upscale: float = 1.0
    _made: dict[tuple[int, int], DenseEncoder] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.clip.name

    @property
    def dim(self) -> int:
        return self.clip.dim

    @property
    def weights(self) -> WeightsId:
        return WeightsId(self.clip.weights_sha256, self.clip.weights_random)

    @cached_property
    def temperature(self) -> float:
        return 1 / float(self.clip.model.logit_scale.exp())

    @property
    def precision(self) -> str:
        return "bfloat16" if self.device.type == "cuda" else "float32"

    @property
    def device(self) -> torch.device:
        return next(self.clip.model.parameters()).device

    def cells(self, size: tuple[int, int]) -> CellGrid:
        return self._for_size(size).cells

    def encode(self, images: NDArray[np.uint8] | Tensor) -> Tensor:
        if images.ndim != 4:
            raise FrameError(f"images {tuple(images.shape)}, expected (B, H, W, 3)")
        height, width = images.shape[1:3]
        return self._for_size((width, height)).encode(images)

    def _for_size(self, size: tuple[int, int]) -> DenseEncoder:
        if size not in self._made:
            gpu = self.device.type == "cuda"
            self._made[size] = dense_encoder(
                self.clip, size, upscale=self.upscale, batch_size=AT_ONCE if gpu else 1, bfloat16=gpu
            )
        return self._made[size]

    @torch.inference_mode()
    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Whole images by the model's own preprocessing (resized, cropped to the centre, normalised) and pooling."""
        prepare = image_transform_v2(PreprocessCfg(**self.clip.model.visual.preprocess_cfg), is_train=False)
        parts = [torch.empty(0, self.dim)]
        for start in range(0, len(images), IMAGES):
            batch = torch.stack([prepare(Image.fromarray(image)) for image in images[start : start + IMAGES]])
            parts.append(F.normalize(self.clip.model.encode_image(batch.to(self.device)).float(), dim=-1).cpu())
        return torch.cat(parts).numpy()

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        parts = [torch.empty(0, self.dim)]
        for start in range(0, len(texts), TEXTS):
            tokens = self.clip.tokenizer(list(texts[start : start + TEXTS])).to(self.device)
            parts.append(F.normalize(self.clip.model.encode_text(tokens).float(), dim=-1).cpu())
        return torch.cat(parts).numpy()

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """Texts by their tokens.

        Tokenizers cut in silence. With room for one token more, what was cut is not what it was, or goes on.
        """
        tokens = self.clip.tokenizer(list(texts))
        length = tokens.shape[1]
        longer = self.clip.tokenizer([*texts, ""], context_length=length + 1)
        longer, padding = longer[:-1], longer[-1, -1]
        cut = (longer[:, :length] != tokens).any(dim=1) | (longer[:, length] != padding)
        return [Reading(row.numpy().tobytes(), bool(c)) for row, c in zip(tokens, cut, strict=True)]


@dataclass(frozen=True)
class OpenClipLoader:
    """`ovps.clip.protocol.EncoderLoader` of a model by open_clip's name.

    Attributes:
        worker_bytes: what the default encoder takes at 1600 x 900, measured on a CPU, with some room.
    """

    name: str
    worker_bytes: int = int(3.5 * 2**30)

    def load(self, weights: str | None, *, device: str = "cpu", upscale: float = 1.0) -> OpenClipEncoder:
        clip = load_clip(self.name, weights)
        clip.model.to(device)
        return OpenClipEncoder(clip, upscale)


DEMO = OpenClipLoader(demo.NAME, worker_bytes=int(1.5 * 2**30))


def of_open_clip(name: str, others: Sequence[str]) -> OpenClipLoader:
    """The loader of a model that open_clip knows.

    Raises:
        ConfigError: it knows none of that name; the remedy names similar ones, `others` too.
    """
    check_known(name, others)
    return OpenClipLoader(name)
