"""The code of docs/add_a_system.md runs as it stands: its system is trained, resumed, scored and predicts."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from ovps import systems
from ovps.errors import ConfigError
from ovps.training.metrics import read_metrics
from pipelines.evaluate import evaluate
from pipelines.predict import predict
from tests.helpers.markdown import code_blocks
from tests.training.small import small_run


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The two blocks of the page: a module, and the line that names it."""
    module, line = code_blocks("docs/add_a_system.md", "python")
    (tmp_path / "code").mkdir()
    (tmp_path / "code/nearest_text.py").write_text(module, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    with pytest.raises(ConfigError, match="no system named 'nearest_text'"):
        systems.get("nearest_text")
    exec(compile(line, "docs/add_a_system.md", "exec"), {})
    yield
    del systems.BUILT_IN["nearest_text"]
    sys.modules.pop("nearest_text", None)


def test_the_system_of_the_page_is_trained_scored_and_predicts(page, store, tmp_path):
    run = tmp_path / "run"
    small_run(store, run, "steps=2", "system=nearest_text")
    assert read_metrics(run)[0]["loss/distance"] == pytest.approx(0, abs=1e-6)  # it begins at CLIP
    result = evaluate(run, store, device="cpu")
    assert result.step == 2
    assert result.parameters == 2
    # the synthetic store's features are its texts plus noise
    assert result.system.panoptic.groups["all"].miou_present > 0.3
    summary = predict(run, store, tmp_path / "out", device="cpu")
    assert summary.problems == []
    assert summary.frames == 2
    assert np.isfinite(summary.seconds)
