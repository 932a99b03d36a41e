"""`mixer-classify`: what its arguments mean, and the run from the first path to the exit code."""

import argparse
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, closing
from io import FileIO
from itertools import chain, islice
from typing import NoReturn

from pydantic import ValidationError

from service import __version__
from service.bundles.bundle import Bundle, BundleError, find_bundles, load_bundle
from service.host import allowed_cores
from service.lanes.lane import LaneLost, LoadFailure
from service.offline.classifier import Classifier, Outcome, check_gives, find_bundle
from service.offline.feature_file import FeatureFile
from service.offline.output import Output
from service.offline.paths import STANDARD_INPUT, ImagePaths, matches
from service.offline.progress import Progress
from service.offline.rows import CsvRows, JsonRows, NotOurs, TextRows
from service.settings import Settings, errors_of

_DESCRIPTION = """\
Classify image files on all cores, without a service.

A file that cannot be classified is a row with its error, and the exit code is 1 at the end. With --csv or --jsonl
a run that was stopped goes on where it ended, by the same command. Row i of --features is of the image in row i of
those, or of standard output, and NaN where there is an error.
"""
_EPILOG = """\
MIXER_MODEL_REPOSITORY, MIXER_MODELS, MIXER_ENGINE, MIXER_PROVIDERS, MIXER_LANES, MIXER_THREADS, MIXER_MAX_BATCH_SIZE
and MIXER_MAX_PIXELS mean what they do for mixer-serve.

examples:
  mixer-classify photos/ --model digits --top-k 1 --csv answers.csv
  find photos -name '*.png' | mixer-classify - --jsonl answers.jsonl
"""
_FAILURES = (BundleError, LoadFailure, LaneLost, MemoryError, NotOurs, OSError, ValueError)


def run(arguments: list[str] | None = None) -> NoReturn:
    """See `service.offline.__main__.main`."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    options = _parser().parse_args(arguments)
    for name in options.paths:
        if name != STANDARD_INPUT and not os.path.lexists(name) and not any(matches(name)):
            _refuse(f"{name}: no such file or folder")
    try:
        settings = Settings()
    except ValidationError as error:
        _refuse("; ".join(errors_of(error)))
    if settings.model and options.model is None:
        _refuse("MIXER_MODEL is for mixer-serve, which can export what it names: give a bundle with --model")
    try:
        sys.exit(_classify(options, settings))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # nobody reads the rows any more
        os._exit(128 + signal.SIGPIPE)
    except _FAILURES as error:
        sys.exit(f"mixer-classify: {' '.join(_told(error).split()) or type(error).__name__}")


def _told(error: Exception) -> str:
    if not isinstance(error, OSError) or error.filename is None:
        return str(error)
    return f"{'standard output' if isinstance(error.filename, int) else error.filename}: {error.strerror}"


def _classify(options: argparse.Namespace, settings: Settings) -> int:
    if options.model is not None:
        path = find_bundle(options.model, settings.model_repository)
    else:
        path = find_bundles(settings.model_repository, settings.models)[0]
    bundle = load_bundle(path, verified=True)  # which Classifier.load verifies
    check_gives(bundle.manifest, features=options.features is not None)
    with ExitStack() as files:
        output = files.enter_context(closing(_output(options, bundle)))
        features = None
        if options.features:
            features = files.enter_context(closing(_features(options.features, bundle, output)))
        work = _Work(ImagePaths(options.paths, sys.stdin.buffer), output, features)
        cores = max(1, int(allowed_cores()))
        first = list(islice(work.new, cores))
        if first:
            # No more lanes than there are images.
            lanes = settings.lanes or (len(first) if len(first) < cores else 0)
            counted = None if STANDARD_INPUT in options.paths else options.paths
            with (
                Classifier.load(
                    path,
                    engine=settings.engine,
                    providers=settings.providers,
                    lanes=lanes,
                    threads=settings.threads,
                    max_batch_size=settings.max_batch_size,
                    max_pixels=settings.max_pixels,
                ) as classifier,
                closing(Progress(sys.stderr, counted)) as progress,
            ):
                paths = chain(first, work.new)
                work.do(classifier.stream(paths, options.top_k, features=features is not None), progress)
        work.tell()
        if not work.images and not work.earlier:
            raise ValueError(f"no image files in {', '.join(options.paths)}")
        return 1 if work.failed or output.failed else 0


class _Work:
    """What of the paths is new, and how far it is done."""

    def __init__(self, paths: ImagePaths, output: Output, features: FeatureFile | None) -> None:
        self._paths, self._output, self._features = paths, output, features
        self._waiting = deque[str]()
        self.new = self._new()
        self.earlier = len(output.done)
        self.images = self.failed = 0
        self._seconds = 0.0

    def _new(self) -> Iterator[str]:
        for path in self._paths:
            if self._output.done.add(path):
                self._waiting.append(path)
                yield path

    def do(self, outcomes: Iterator[Outcome], progress: Progress) -> None:
        """Write their rows; whoever is interrupted is told how far it went."""
        started = time.monotonic()
        try:
            for outcome in outcomes:
                self._write(self._waiting.popleft(), outcome)
                self.images += 1
                self.failed += isinstance(outcome, Exception)
                self._seconds = time.monotonic() - started
                progress.show(self.images, self.earlier, self.failed)
        except (KeyboardInterrupt, SystemExit):
            progress.close()
            print("mixer-classify: stopped", file=sys.stderr)
            self.tell()
            raise

    def _write(self, path: str, outcome: Outcome) -> None:
        if self._features:
            self._features.write(outcome)
        self._output.write(path, outcome)
        if self._features:
            self._features.commit()

    def tell(self) -> None:
        """A line about all that was done."""
        told = []
        if self.images:
            rate = self.images / self._seconds
            told += [f"{self.images:,} images in {self._seconds:.1f} s, {rate:,.0f} img/s"]
        told += [f"{self.earlier:,} had a row before"] if self.earlier else []
        failed = self.failed + self._output.failed
        told += [f"{failed:,} with errors"] if failed else []
        passed_over = self._paths.passed_over
        told += [f"files passed over, which are no images by their names: {passed_over:,}"] if passed_over else []
        if told:
            print(f"mixer-classify: {'; '.join(told)}", file=sys.stderr)


def _output(options: argparse.Namespace, bundle: Bundle) -> Output:
    manifest = bundle.manifest
    model = f"{manifest.name}/{manifest.version}@{bundle.sha256[:12]}"
    top_k = min(options.top_k, manifest.classes)
    rows = CsvRows(model, top_k) if options.csv else JsonRows(model, top_k) if options.jsonl else TextRows()
    target = options.csv or options.jsonl or "-"
    if target == "-":
        return Output(FileIO(sys.stdout.fileno(), "w", closefd=False), rows)
    try:
        return Output.open(target, rows)
    except NotOurs as error:
        raise NotOurs(f"{target} {error}; it is left as it is") from None


def _features(target: str, bundle: Bundle, output: Output) -> FeatureFile:
    assert bundle.manifest.features
    try:
        return FeatureFile.open(target, bundle.manifest.features.size, output)
    except NotOurs as error:
        raise NotOurs(f"{target} {error}; it is left as it is") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mixer-classify",
        usage="mixer-classify PATH... [--model B] [--top-k K] [--csv F | --jsonl F] [--features F.npy]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}", help="show it and exit")
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="image file, folder (all images below it but hidden ones), quoted glob, or - for one path a line on "
        "standard input",
    )
    parser.add_argument(
        "--model", type=_named, metavar="B", help="bundle's path, or name or name/version in the model repository"
    )
    parser.add_argument("--top-k", type=positive, default=5, metavar="K", help="predictions of an image; default: 5")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", type=_named, metavar="F", help="file to write CSV to, or go on with; -: standard output")
    form.add_argument("--jsonl", type=_named, metavar="F", help="the same in JSON, an object a line")
    parser.add_argument(
        "--features",
        type=_file,
        metavar="F.npy",
        help="file to write features to, or with --csv or --jsonl to go on with: float32 [rows, size]",
    )
    return parser


def _named(text: str) -> str:
    if not text:  # perhaps a shell's variable that is not set
        raise argparse.ArgumentTypeError("it is empty")
    return text


def _file(text: str) -> str:
    if text in ("", "-"):
        raise argparse.ArgumentTypeError("it must be a file")
    return text


def positive(text: str) -> int:
    """An argument that is a whole number from 1 on; raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _refuse(message: str) -> NoReturn:
    print(f"mixer-classify: {message}", file=sys.stderr)
    sys.exit(2)
