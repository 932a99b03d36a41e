"""What a model gave -> a ModelInferResponse."""

from service.api.v2.request import Inference
from service.api.v2.response import write
from service.arrays import Outputs
from service.bundles.manifest import Manifest
from service.grpc_api.messages import ModelInferResponse


def write_response(inference: Inference, manifest: Manifest, labels: tuple[str, ...] | None, given: Outputs) -> bytes:
    """The bytes of the answer, of which outputs that are not `binary` are contents of their type."""
    response = ModelInferResponse(model_name=manifest.name, model_version=manifest.version, id=inference.id or "")
    for output in inference.outputs:
        tensor, data = write(output, given, labels)
        message = response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if output.binary:
            response.raw_output_contents.append(data)
        elif tensor.datatype == "BYTES":
            message.contents.bytes_contents.extend(str(string).encode() for string in tensor.data or [])
        else:
            message.contents.fp32_contents.extend(tensor.data or [])
    return bytes(response.SerializeToString())
