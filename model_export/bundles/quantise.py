"""Int8: which layers to quantise, so that the answers stay the reference's."""

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
import onnxruntime as ort
from tqdm import tqdm

from model_export.bundles.agreement import Agreement, agreement
from model_export.bundles.calibration import measure_layer_inputs
from model_export.bundles.onnx_graph import LayerInput, MixerGraph
from service.arrays import LogitBatch, PixelBatch
from service.bundles.manifest import Gate

QuantisedLayers = dict[str, LayerInput]
_JUDGES = 32  # calibration images on which choices are compared: the held-out ones stay unseen until the gate
_BATCH = 4


class Quantiser:
    """Calibrates a network's dense layers and chooses which to compute in integers.

    `build` writes the graph with the given layers quantised; `pixels` are calibration images.
    """

    def __init__(self, build: Callable[[QuantisedLayers], MixerGraph], pixels: PixelBatch) -> None:
        self._build = build
        self._judges = pixels[:: -(-len(pixels) // _JUDGES)]
        in_floats = build({})
        self._reference = _answers(in_floats, self._judges)
        cuts = list(measure_layer_inputs(in_floats, pixels).values())
        measured = [self._measure(inputs).cosine for inputs in tqdm(cuts, desc="ranges", unit="cut", leave=False)]
        self._cosine = max(measured)  # with all layers quantised
        self._inputs = cuts[measured.index(self._cosine)]

    @property
    def layers(self) -> list[str]:
        """Names of all that could be quantised, in order."""
        return list(self._inputs)

    def choices(self, gate: Gate) -> Iterator[QuantisedLayers]:
        """Sets of layers to quantise, each leaving more in float32 than the one before, up to half of them.

        The first is the largest that reaches the gate's cosine with half its error to spare, since other images will
        have to reach it. Top-1 is left to those: on few images it hangs on single ties.
        """

        def near_enough(floats: int) -> bool:
            cosine = self._measure(self._without(floats)).cosine if floats else self._cosine
            return 1 - cosine <= (1 - (gate.cosine or 0)) / 2

        most = len(self._inputs) // 2
        floats = 0
        while floats < most and not near_enough(floats):
            floats += 1
        while floats <= most:
            yield self._without(floats)
            floats += max(1, floats)

    def _without(self, floats: int) -> QuantisedLayers:
        """All layers but the `floats` most sensitive."""
        left = list(self.sensitivity)[:floats] if floats else []
        return {layer: spec for layer, spec in self._inputs.items() if layer not in left}

    @cached_property
    def sensitivity(self) -> dict[str, float]:
        """1 - cosine of the worst image when a layer alone is quantised, the most sensitive layer first."""
        costs = {
            layer: 1 - self._measure({layer: spec}).cosine
            for layer, spec in tqdm(self._inputs.items(), desc="sensitivity", unit="layer")
        }
        return dict(sorted(costs.items(), key=lambda item: -item[1]))

    def _measure(self, quantised: QuantisedLayers) -> Agreement:
        return agreement(_answers(self._build(quantised), self._judges), self._reference)


def _answers(graph: MixerGraph, pixels: PixelBatch) -> LogitBatch:
    """Logits, or without a head features."""
    session = ort.InferenceSession(graph.model.SerializeToString(), providers=["CPUExecutionProvider"])
    batches = (pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH))
    answer = session.get_outputs()[0].name
    return np.concatenate([session.run([answer], {"images": batch})[0] for batch in batches])
