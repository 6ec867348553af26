"""Activation that weights of CLIP were trained with: QuickGELU is OpenAI's, MetaCLIP's and DFN's, GELU most others'.

An encoder of open_clip has one of them, whatever weights are loaded into it, and the tensors do not tell.
"""

from __future__ import annotations

from pathlib import Path

from ovps.errors import WeightsError


def check_activation(encoder: str, weights: str | None) -> None:
    """Check that weights of a tag of open_clip were trained with the activation that the encoder has.

    Raises:
        WeightsError: with another one; the remedy names the encoder that has it.
    """
    twin = trained_as(encoder, weights)
    if twin:
        raise WeightsError(
            f"the weights {weights} were trained with the activation QuickGELU, and {encoder} is built with GELU",
            remedy=f"Name --encoder {twin}",
        )


def trained_as(encoder: str, weights: str | None) -> str | None:
    """Name the encoder that weights of a tag were trained as, if it has another activation; None where not known."""
    import open_clip  # torch: commands that run no CLIP need none

    tagged = (open_clip.get_pretrained_cfg(encoder, weights) or {}) if weights else {}
    return _twin(encoder) if tagged.get("quick_gelu") else None


def activation_warnings(encoder: str, weights: str | None) -> list[str]:
    """Warn of a file of weights that may have been trained with another activation than the encoder's, or say nothing.

    Args:
        weights: a tag of open_clip, a file, or `random`.
    """
    twin = _twin(encoder)
    if weights is None or not Path(weights).is_file() or not twin:
        return []
    return [
        f"{encoder} is built with the activation GELU: if these are weights of OpenAI, MetaCLIP or DFN, trained with"
        f" QuickGELU, name --encoder {twin}"
    ]


def _twin(encoder: str) -> str | None:
    """The same encoder with the activation QuickGELU, of one that has another."""
    import open_clip

    twin = f"{encoder}-quickgelu"
    return twin if twin in open_clip.list_models() else None
