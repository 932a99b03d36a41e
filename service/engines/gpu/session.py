"""An onnxruntime session that runs on a GPU as a whole or not at all."""

from pathlib import Path
from types import ModuleType
from typing import Any

from service.engines.engine import EngineError


def open_gpu_session(
    ort: ModuleType, model: Path, provider: str, options: dict[str, str], device: Any | None = None
) -> Any:
    """A session of `provider` alone; `device` is the OrtEpDevice of one that is a registered plugin.

    Raises EngineError if the provider is not installed or does not start, or if any operator would run on the CPU:
    by itself onnxruntime would copy to and fro in silence, or start on the CPU with a line on the console.
    """
    session_options = ort.SessionOptions()
    session_options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    providers = None
    if device is not None:
        session_options.add_provider_for_devices([device], options)
    elif provider in (installed := ort.get_available_providers()):
        ort.preload_dlls()  # CUDA and cuDNN from their Python packages, if they are not the system's
        providers = [(provider, options)]
    else:
        raise EngineError(
            f"providers not installed: {provider} (package onnxruntime-gpu); installed: {', '.join(installed)}"
        )
    try:
        session = ort.InferenceSession(model, session_options, providers=providers, enable_fallback=False)
    except Exception as error:  # onnxruntime raises classes of its own that share no public base
        raise EngineError(f"{model}: {error}") from error
    if session.get_providers()[0] != provider:
        raise EngineError(f"{provider} did not start; onnxruntime fell back to {session.get_providers()}")
    return session
