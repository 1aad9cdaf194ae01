"""
Writes figures as Prometheus reads them.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from dcounter.figures import Family, Histogram, Samples

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""
The form for callers that do not ask for another one.
"""


_EOF: Final = b"# EOF\n"


class _Collected(Collector):
    """
    Figures, as a registry of prometheus-client collects them.
    """

    def __init__(self, measured: Iterable[Samples]) -> None:
        self._measured = measured

    def collect(self) -> Iterable[Metric]:
        return map(_metric, self._measured)


def exposed(measured: Iterable[Samples], accept: str = "") -> tuple[AsyncGenerator[bytes, None], str]:
    """
    Figures in the form that a caller prefers, family by family.

    :param accept: the header `Accept` of its request.
    :returns: the text, and its content type.
    """
    encode, content_type = choose_encoder(accept)
    return _text(measured, encode), content_type


async def _text(
    measured: Iterable[Samples], encode: Callable[[Collector], bytes]
) -> AsyncGenerator[bytes, None]:
    for each in measured:
        yield encode(_registry([each])).removesuffix(_EOF)
    # The end of OpenMetrics; nothing in the other form.
    yield encode(_registry([]))


def _registry(measured: Iterable[Samples]) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(measured))
    return registry


def _metric(measured: Samples) -> Metric:
    family = measured.family
    if family.kind == "histogram":
        return _histogram(family, measured.values)
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, value in measured.values:
        assert not isinstance(value, Histogram)
        metric.add_metric(labels, value)
    return metric


def _histogram(family: Family, values: Sequence[tuple[tuple[str, ...], float | Histogram]]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    for labels, value in values:
        assert isinstance(value, Histogram)
        bounds = [*map(floatToGoString, value.bounds), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(value.counts)), strict=True))
        metric.add_metric(labels, buckets, value.total)
    return metric
