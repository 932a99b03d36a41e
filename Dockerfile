# Three images: cpu (the default) and gpu serve, export makes bundles. docs/container.md says how.

# By tag, so that a rebuild brings Debian's security fixes; where builds must be repeatable, `make pin-base` adds the digest.
ARG BASE_IMAGE=python:3.12-slim-bookworm

FROM ${BASE_IMAGE} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_COMPILE=1 PIP_PYTHON=/opt/venv/bin/python
RUN python3 -m venv --without-pip /opt/venv
COPY requirements/otel.txt requirements/heic.txt requirements/grpc.txt /requirements/
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m pip install --require-hashes -r /requirements/otel.txt -r /requirements/heic.txt \
       -r /requirements/grpc.txt

# Files that no CPU service uses: OpenVINO's GPU and NPU plugins and what reads anything but ONNX, onnxruntime's library
# for C (Python has its own) and its export tools, headers, packages' tests.
FROM packages AS slim
RUN site=$(echo /opt/venv/lib/python3*/site-packages) \
    && rm "$site"/openvino/libs/libopenvino_intel_[gn]pu_plugin.so "$site/openvino/libs/cache.json" \
          "$site"/onnxruntime/capi/libonnxruntime.so.* \
    && find "$site/openvino/libs" -name '*_frontend.so.*' ! -name '*_onnx_frontend*' -delete \
    && rm -r "$site/openvino/include" "$site/onnxruntime/transformers" "$site/onnxruntime/quantization" \
             "$site/onnxruntime/tools" \
    && find "$site" -type d -name tests -prune -exec rm -r {} + \
    && /opt/venv/bin/python -m compileall -q "$site"

FROM slim AS cuda
COPY requirements/gpu.txt /requirements/
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m pip uninstall --yes onnxruntime \
    && python3 -m pip install --require-hashes -r /requirements/gpu.txt

FROM packages AS torch
COPY requirements/export.txt requirements/torch.txt /requirements/
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m pip install --require-hashes -r /requirements/export.txt \
    && python3 -m pip install -r /requirements/torch.txt

FROM packages AS application
WORKDIR /app
COPY LICENSE ./
COPY models models
COPY service service
COPY model_export model_export
RUN chmod -R a+rX . && /opt/venv/bin/python -m compileall -q .

FROM ${BASE_IMAGE} AS runtime
# Python's own images come without bytecode, and a read-only file system would have it made anew at every start.
RUN python3 -m compileall -q -x 'site-packages|dist-packages|idlelib|lib2to3|tkinter|turtledemo' \
    "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
LABEL org.opencontainers.image.title="Mixer serving" \
      org.opencontainers.image.description="MLP-Mixer image classification over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
WORKDIR /app
USER 10001:10001

FROM runtime AS serving
# Python's fork server, which starts the lanes, has a socket in a folder. In memory, where a read-only container has one.
ENV TMPDIR=/dev/shm
EXPOSE 8000 9000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["python", "-ISc", "\
import os, http.client as h; c = h.HTTPConnection('127.0.0.1', os.environ.get('MIXER_PORT', 8000), timeout=2); \
c.request('GET', '/healthz/ready'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "service"]

FROM runtime AS export
ENV HOME=/tmp
COPY --from=torch /opt/venv /opt/venv
COPY --from=application /app ./
ENTRYPOINT ["python", "-m", "model_export"]

FROM serving AS gpu
ENV MIXER_PROVIDERS=CUDAExecutionProvider
COPY --from=cuda /opt/venv /opt/venv
COPY --from=application /app/LICENSE ./
COPY --from=application /app/models models
COPY --from=application /app/service service

FROM serving AS cpu
COPY --from=slim /opt/venv /opt/venv
COPY --from=application /app/LICENSE ./
COPY --from=application /app/models models
COPY --from=application /app/service service
