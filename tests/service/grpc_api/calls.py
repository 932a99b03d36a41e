"""A replica asked over gRPC, by the library's own client."""

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import numpy as np

from service.app import create_api
from service.grpc_api.messages import SERVICE, ModelInferRequest, methods
from service.grpc_api.server import GrpcServer
from service.models.replica import Replica
from tests.doubles import SIDE, level_pixels, started


class Client:
    """One connection."""

    def __init__(self, server: GrpcServer, port: int) -> None:
        self.server = server
        self.port = port
        self.channel = self.connect()

    def connect(self) -> grpc.aio.Channel:
        own = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", own)

    def call(self, method: str, message: Any = b"", service: str = SERVICE, **options: Any) -> Any:
        """A call of a method with a message, its fields or any bytes; awaited it gives the answer's message."""
        of_request, of_answer = methods(service)[method]
        data = message if isinstance(message, bytes) else (message or of_request()).SerializeToString()
        return self.channel.unary_unary(f"/{service}/{method}", None, of_answer.FromString)(data, **options)

    def infer(self, message: Any, **options: Any) -> Any:
        return self.call("ModelInfer", message, **options)


@asynccontextmanager
async def client_of(replica: Replica, connections: int = 100) -> AsyncIterator[Client]:
    """A client of a replica that serves for the length of the block."""
    async with started(replica):
        listener = socket.create_server(("127.0.0.1", 0))
        server = GrpcServer(create_api(replica), listener, connections)
        client = Client(server, await server.start())
        try:
            yield client
        finally:
            await client.channel.close()
            await server.stop()


def files(*images: bytes, **fields: Any) -> Any:
    """A request for encoded images, raw."""
    message = ModelInferRequest(**{"model_name": "echo"} | fields)
    message.inputs.add(name="image_bytes", datatype="BYTES", shape=[len(images)])
    message.raw_input_contents.append(b"".join(struct.pack("<I", len(image)) + image for image in images))
    return message


def pixels(*levels: int, **fields: Any) -> Any:
    """A request for images of these levels, whose numbers are contents."""
    message = ModelInferRequest(**{"model_name": "echo"} | fields)
    tensor = message.inputs.add(name="images", datatype="UINT8", shape=[len(levels), SIDE, SIDE, 3])
    tensor.contents.uint_contents.extend(np.stack([level_pixels(level) for level in levels]).ravel().tolist())
    return message


def levels(answer: Any) -> list[int]:
    """The images' levels, as the logits of an answer say."""
    logits = answer.outputs[0]
    assert (logits.name, logits.datatype) == ("logits", "FP32")
    raw = answer.raw_output_contents
    values = np.frombuffer(raw[0], "<f4") if raw else np.array(logits.contents.fp32_contents)
    return [int(level) for level in values.reshape(tuple(logits.shape)).argmax(axis=1)]


async def failure(call: Any) -> grpc.aio.AioRpcError:
    """How a call fails."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError(f"it was answered: {answer}")


def trailers(error: grpc.aio.AioRpcError) -> dict[str, str]:
    return dict(error.trailing_metadata() or ())
