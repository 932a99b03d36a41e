"""Load results with obvious figures."""

from benchmarks.load.result import GeneratorSide, Latency, LoadResult, Run, ServedModel, ServerSpent

CURVE = {1: 0.004, 2: 0.006, 4: 0.010}  # 400 img/s in batches of 4


def made_served(cores: float = 2.0, engine: str = "openvino 2026.4.1") -> ServedModel:
    """A pod with one lane."""
    labels = {"model": "digits", "version": "1", "precision": "int8", "engine": engine}
    build = {"version": "0.1.0"}
    return ServedModel(model=labels, build=build, pass_seconds=CURVE, gmacs=0.1, cores=cores, lanes=1, lane_threads=2)


def made_run(
    rate: float, p99: float | None = 50.0, *, scenario: str = "sweep", p50: float = 10.0, **changes: object
) -> Run:
    """4 ms of CPU an image: half of one each for the front and decoding, 3 in passes as long as at the start."""
    open_loop = scenario not in ("offline", "single-stream")
    run = Run(
        scenario=scenario,
        target="mixer",
        repeat=0,
        loop="open" if open_loop else "closed",
        clients=None if open_loop else 32,
        images_per_query=1,
        seconds=10.0,
        offered_images_per_second=rate if open_loop else None,
        images_per_second=rate,
        good_images_per_second=rate,
        objective_ms=500.0,
        queries=int(10 * rate),
        missed=0,
        latency=Latency(p50=p50, p90=p50, p95=p50, p99=p99, p99_9=None, max=1000.0),
        refused_p99_ms=None,
        codes={"200": int(10 * rate)},
        generator=GeneratorSide(lag_p50_ms=0.1, lag_p99_ms=0.2, lag_max_ms=0.3, cpu_share=0.1, sent_share=1.0),
        server=ServerSpent(
            cpu_seconds=10 * rate * 0.004,
            images_per_cpu_second=250.0,
            peak_memory_bytes=400 * 2**20,
            mean_batch=2.0,
            images_per_engine_core_second=1000 / 3,
            front_seconds=0.0005,
            decode_seconds=0.0005,
            infer_seconds=CURVE[2],
        ),
    )
    return run.model_copy(update=changes)


def made_result(*runs: Run, served: ServedModel | None = None) -> LoadResult:
    """Of one Mixer service."""
    return LoadResult(
        command="python -m benchmarks load sweep",
        date="2026-11-21",
        environment={"cpu": "one that is made up"},
        served={"mixer": served or made_served()},
        runs=list(runs),
    )


SWEEP = [made_run(100), made_run(200), made_run(300), made_run(400, p99=450.0)]
