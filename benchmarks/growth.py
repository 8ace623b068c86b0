"""### How do time and memory grow with the picture?

A square picture in a process of its own, at one octave or scale: seconds of each of its steps, and the most memory that the process
ever had, the network and the libraries included. The exponents are fitted over pixels: time is linear at 1; memory beyond what the
smallest picture takes is that of whole images, since activations are held a tile at a time.
"""

from collections.abc import Iterator

from benchmarks.measure import Row, apart, exponent, peak_memory

STEPS = 2

SIZES = (512, 1024, 2048)
"""Pixels a side, in every case."""

SMALL, LARGEST = "efficientnet_lite0", 4096
"""One size more on the small network."""


def grown(kind: str, network: str, size: int) -> tuple[list[float], float]:
    """Seconds of every step, and the bytes at the peak."""
    from benchmarks.cases import PICTURES, at_one_size, square
    from benchmarks.measure import timed
    from featviz.networks.cache import load

    (kind,) = (one for one in PICTURES if one.name == kind)
    frames = at_one_size(kind, network, size, STEPS + 1).run(load(network), **square(kind, size))
    next(frames)  # With what is done once.
    return [timed(lambda: next(frames)) for _ in range(STEPS)], peak_memory()


def cases() -> list[tuple[str, str, str]]:
    """Recipe, its title, network."""
    from benchmarks.cases import every

    return [(kind.name, kind.title, network) for kind, network in every()]


def rows() -> Iterator[Row]:
    for kind, title, network in apart(cases):
        sizes = [*SIZES, LARGEST] if network == SMALL else SIZES
        best, peaks = [], []
        for size in sizes:
            seconds, peak = apart(grown, kind, network, size)
            best.append(min(seconds))
            peaks.append(peak)
            yield Row(f"{title}, {network}, {size} px", "s a step", seconds)
            yield Row("memory at the peak", "GB", [peak / 1e9])
        pixels = [size**2 for size in sizes]
        yield Row(f"{title}, {network}: time grows with pixels to the power of", "power", [exponent(pixels, best)], "linear: 1")
        yield Row(
            "memory, from the smallest to the largest", "bytes a pixel", [(peaks[-1] - peaks[0]) / (pixels[-1] - pixels[0])]
        )
