from __future__ import annotations

import pytest

from sf_tui.profile.schema import TaskSettings
from sf_tui.profile.values import choices_of
from sf_tui.vocabulary.metrics import DEFAULT_METRIC, METRICS, metric_named


def test_a_profile_can_name_every_metric_that_any_task_has() -> None:
    field = TaskSettings.model_fields["metric"]
    assert choices_of(field) == ["auto", *(name for name in METRICS if name != "kl")]


@pytest.mark.parametrize("metric", METRICS.values(), ids=str)
def test_a_drop_is_positive_where_the_worst_value_comes_last(metric: object) -> None:
    metric = METRICS[metric.name]  # type: ignore[attr-defined]
    start, now = (0.9, 0.2) if metric.higher_is_better else (0.2, 0.9)
    assert metric.drop(start, now) == pytest.approx(0.7)
    assert metric.drop(now, start) == pytest.approx(-0.7)
    assert metric.worst([start, now]) == now


def test_an_unknown_metric_is_read_as_the_default() -> None:
    assert metric_named("of another version") is DEFAULT_METRIC
