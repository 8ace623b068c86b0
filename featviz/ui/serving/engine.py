"""The functions of the library that the page calls, on a device that may be lent."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

from PIL import Image

from featviz import limits
from featviz.errors import LimitError
from featviz.media.images import Header
from featviz.networks.hub import DownloadProgress
from featviz.recipes.recipe import Recipe
from featviz.runtime import lease
from featviz.runtime.clip import film_clip
from featviz.runtime.devices import Device, limitations
from featviz.runtime.estimate import Estimate, estimate, expected_run
from featviz.runtime.exploration import Explanation, Explored, explain_name, explore, switch_off
from featviz.runtime.game import peak_activations
from featviz.runtime.inspection import ChannelResponse, LayerInspection, gram_picture, inspect_layer, strongest_channels
from featviz.runtime.jobs import Job, Jobs
from featviz.runtime.lesson import CorrelatedMaps, KernelResponse, correlated_maps, kernel_response
from featviz.runtime.memory import Parts, available_memory, single_run
from featviz.runtime.mirror import Mirror
from featviz.runtime.result_files import name_of
from featviz.runtime.sheet import try_out
from featviz.runtime.stream import Preview, prepare, sizes_of, stream
from featviz.ui.serving.admission import Request
from featviz.ui.serving.errors import Runner, error_sentences, explain, with_error_sentences
from featviz.ui.serving.files import in_cache

TRY_OUT, RUN_STEPS = partial(try_out, every=0.5), partial(stream, every=0)
"""Show each small picture as it is made, and every step."""

INSPECTIONS = (
    "inspect_layer",
    "strongest_channels",
    "gram_picture",
    "explore",
    "explain_name",
    "switch_off",
    "kernel_response",
    "correlated_maps",
    "peak_activations",
)
"""The functions of `Engine` that use the device once and return."""


def new_jobs() -> Jobs:
    """Return jobs whose results are PNG files in Gradio's cache."""
    return Jobs(lambda recipe, picture: in_cache(picture, name=name_of(recipe)), explain=explain)


@dataclass(frozen=True)
class Engine:
    """The functions of the library that the page calls. Tests replace them with faster ones."""

    run: Runner = stream
    try_out: Callable[..., Iterator[tuple[Recipe, Preview]]] = TRY_OUT
    estimate: Callable[[Recipe, Mapping[str, Header]], Estimate] = estimate
    inspect_layer: Callable[..., LayerInspection] = inspect_layer
    strongest_channels: Callable[..., tuple[ChannelResponse, ...]] = strongest_channels
    gram_picture: Callable[..., Image.Image] = gram_picture
    explore: Callable[..., Explored] = explore
    explain_name: Callable[..., Explanation] = explain_name
    switch_off: Callable[..., tuple[dict[str, float], tuple[int, ...]]] = switch_off
    kernel_response: Callable[..., KernelResponse] = kernel_response
    correlated_maps: Callable[..., CorrelatedMaps] = correlated_maps
    peak_activations: Callable[..., list[dict[str, list[float]]]] = peak_activations
    in_process: bool = True
    """Whether runs live in this process. Only then can their settings be changed while they work."""
    expected_run: Callable[..., float] = expected_run
    """The seconds that a run is expected to take. Unlike `estimate`, it never measures first."""
    run_steps: Runner = RUN_STEPS
    """As `run`, with a preview of every step."""
    prepare: Callable[..., Iterator[DownloadProgress]] = prepare
    """Downloads and loads the network before a run. Never runs on a lent device, since it may take minutes."""
    limitations: Callable[[], list[str]] = limitations
    memory_left: Callable[[], float] = available_memory
    """Bytes that another run can have now."""
    follow: Runner = film_clip
    """Makes a video of a video. Takes the path of the result after the recipe."""
    mirror: Callable[[], Mirror] = Mirror
    """Makes the live mirror of a visitor."""
    jobs: Jobs = field(default_factory=new_jobs)

    @classmethod
    def on(cls, device: Device) -> "Engine":
        """The library on a device, each run within the time limit."""
        limited = {"seconds": limits.RUN_SECONDS.value}
        options = {"run": limited, "run_steps": limited, "follow": limited}
        functions = [each.name for each in fields(cls) if each.name not in ("in_process", "jobs")]
        return cls(**{name: partial(getattr(cls, name), device=device, **options.get(name, {})) for name in functions})

    def start(self, request: Request, run: Runner, *, sweep: bool = False, **options: Any) -> Job:
        """Start a job that loads the network of a request and then does `run`.

        `sweep`: whether that is the run of its small variants. `options` go to `Jobs.start`, whose errors this raises.
        """
        recipe, pictures, _ = request

        def prepared(recipe: Recipe, **given: Any) -> Iterator[Preview | DownloadProgress]:
            yield from self.prepare(recipe, **pictures)
            yield from run(recipe, **given)

        return self.jobs.start(recipe, pictures, run=prepared, expected=self.expected(request, sweep=sweep), **options)

    def expected(self, request: Request, *, sweep: bool = False) -> float:
        """Return the seconds that a run is expected to take. `sweep`: of its small variants."""
        recipe, pictures, clip = request
        count = clip.header.frames if clip and not sweep else 1
        return sum(
            self.expected_run(part, sizes_of(pictures), count=count) for part in (recipe.variants() if sweep else [recipe])
        )

    def with_device(self, lend: Callable[[Runner], Runner], *, zero_gpu: bool = False) -> "Engine":
        """The same engine with every use of the device wrapped by `lend`, and every error turned into a sentence.

        `zero_gpu`: whether `lend` runs its function in another process, which is ended after the seconds of its `lease`.
        """
        lent = partial(_lent_process, lend) if zero_gpu else lambda run, parts: lend(with_error_sentences(run))
        runs = {
            "run": lent(self.run, single_run),
            "run_steps": lent(self.run_steps, single_run),
            "follow": lent(self.follow, single_run),
            "try_out": lent(self.try_out, lambda recipe: recipe.variants()),
        }
        inspections = {name: self._prepared(lend(error_sentences()(getattr(self, name)))) for name in INSPECTIONS}
        mirror = _no_mirror if zero_gpu else self.mirror
        prepare = with_error_sentences(self.prepare)
        return replace(self, **runs, **inspections, prepare=prepare, mirror=mirror, in_process=not zero_gpu)

    def _prepared(self, inspection: Callable[..., Any]) -> Callable[..., Any]:
        """Load the network before an inspection, so that the lent device never waits for a download."""

        def wrapped(recipe: Recipe, *arguments: Any, **pictures: Image.Image) -> Any:
            for _ in with_error_sentences(self.prepare)(recipe, **pictures):
                pass
            return inspection(recipe, *arguments, **pictures)

        return wrapped


def _no_mirror() -> Mirror:
    """Refuse a mirror: a lease for each frame takes longer than the frame, and on the CPU its threads would not survive the forks."""
    raise LimitError(
        "The live mirror does not run on ZeroGPU, which lends its GPU for single runs; it runs on a Space with a CPU or GPU of its own, "
        "and on your own machine."
    )


def _lent_process(lend: Callable[[Runner], Runner], run: Runner, parts: Parts) -> Runner:
    """Wrap a run that `lend` executes in another process, within a lease. Errors become sentences in both processes."""
    return with_error_sentences(lease.borrow(lend(with_error_sentences(lease.within_lease(run))), parts))
