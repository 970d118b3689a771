"""One measurement of `benchmarks/patches.py`: imports first, then the clock."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import h5py
import numpy as np
import openslide
from numpy.typing import NDArray

from benchmarks.memory import peak_mb
from tasks.config import Encoding, PreprocessConfig, TissueConfig
from tasks.patches.attributes import ShardAttributes
from tasks.patches.candidates import Candidates, Selection
from tasks.patches.extract import extract_patches
from tasks.patches.filters import white_and_black_fraction
from tasks.patches.pieces import pieces_of
from tasks.patches.preprocess import preprocess_slide
from tasks.patches.slide_job import SlideJob
from tasks.patches.store import open_shard, write_shard
from tasks.slides.cohort import SlideRecord
from tasks.slides.reader import open_slide
from tasks.slides.tiff_tiles import TiffTiles, find_jpeg_tiles
from tasks.slides.tissue import box_fraction, tissue_mask

SIDE_PX = 224
RANDOM_PATCHES = 5000
BATCH = 64
BATCHES = {"raw": 400, "jpeg": 100, "tiles": 60}
CONFIG = PreprocessConfig(patch_px=SIDE_PX)
Rgb = NDArray[np.uint8]
Reader = Callable[[Path, Candidates], Iterator[tuple[int, Rgb]]]


@dataclass(frozen=True)
class Work:
    """What is measured: the slide, the positions and where the shard goes."""

    slide: Path
    candidates: Candidates
    out: Path

    def attributes(self, encoding: Encoding) -> ShardAttributes:
        """Attributes of the shard."""
        with openslide.OpenSlide(self.slide) as opened:
            width, height = opened.dimensions
        return ShardAttributes(
            slide=self.slide.stem, slide_digest="sha256:0", patient="p", split="test", truth="negative", level=0,
            level_downsample=1, mpp=0.25, patch_px=SIDE_PX, stride_px=SIDE_PX, slide_width_px=width,
            slide_height_px=height, sampling="grid", seed=0, encoding=encoding, configuration="{}",
        )  # fmt: skip


def measure(method: str, slide: Path, folder: Path) -> dict[str, float]:
    """Run one method; give patches, seconds, bytes and memory."""
    if method == "job":
        return measure_job(slide, folder / "job")
    work = Work(slide, positions(slide, random=method.startswith("random")), folder / f"{method}.h5")
    if method.startswith("read-"):
        return measure_reading(method.removeprefix("read-"), folder)
    run = {
        "bound": lambda: bound(work),
        "random": lambda: ours(work, "raw"),
        "random-openslide": lambda: others(work, openslide_loop),
        "script": lambda: plain_script(work),
        "openslide": lambda: others(work, openslide_loop),
        "openslide-rows": lambda: others(work, openslide_rows),
        "tiffslide": lambda: others(work, tiffslide_loop),
        "pyvips": lambda: others(work, pyvips_fetch),
        "cucim": lambda: others(work, cucim_cached),
    }.get(method, lambda: ours(work, method))  # type: ignore[arg-type]  # the others are encodings
    work.out.unlink(missing_ok=True)
    measured = clocked(run)
    size_bytes = work.out.stat().st_size
    if method not in BATCHES:
        work.out.unlink()
    return {**measured, "bytes_a_patch": size_bytes / measured["patches"]}


def positions(slide: Path, *, random: bool) -> Candidates:
    """Positions with at least half tissue: a dense grid, or some at random."""
    with open_slide(slide) as reader:
        overview = reader.read_overview(8.0)
        width, height = reader.dimensions_px
    mask = tissue_mask(overview.rgb, TissueConfig(), overview.um_per_px).mask
    if random:
        generator = np.random.default_rng(0)
        x, y = (generator.integers(0, size - SIDE_PX, 20 * RANDOM_PATCHES) for size in (width, height))
    else:
        steps = [np.arange(0, size - SIDE_PX + 1, SIDE_PX) for size in (height, width)]
        y, x = (values.ravel() for values in np.meshgrid(*steps, indexing="ij"))
    side = SIDE_PX / overview.downsample
    tissue = box_fraction(mask, x / overview.downsample, y / overview.downsample, side, side).astype(np.float32)
    kept = np.flatnonzero(tissue >= 0.5)[: RANDOM_PATCHES if random else None]
    normal = np.zeros(len(kept), np.int8)
    return Candidates(x[kept], y[kept], tissue[kept], np.zeros(len(kept), np.float32), normal)


def clocked(run: Callable[[], int]) -> dict[str, float]:
    """Seconds of this process, and memory above what it had."""
    before_mb = peak_mb()
    cpu_s, wall_s = time.process_time(), time.monotonic()
    patches = run()
    cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s
    return {"patches": patches, "cpu_s": cpu_s, "wall_s": wall_s, "peak_mb": peak_mb() - before_mb}


def ours(work: Work, encoding: Encoding) -> int:
    """Cut as Layer 1 does."""
    with open_slide(work.slide) as reader:
        selection = Selection(work.candidates, {}, Counter())
        return extract_patches(reader, selection, work.attributes(encoding), CONFIG, work.out).rows


def bound(work: Work) -> int:
    """Decode, copy, look and write, with nothing in between."""
    with open_slide(work.slide) as reader:
        layout = find_jpeg_tiles(reader, 0)
    if layout is None:
        raise SystemExit("the bound is that of JPEG tiles; this slide has none")
    tiles, pixels = TiffTiles(work.slide, layout), layout.grid.new_tile()
    x, y = work.candidates.x_level0_px, work.candidates.y_level0_px
    for tile in np.unique(pieces_of(x, y, SIDE_PX, layout.grid).tile).tolist():
        tiles.read_tile(tile, pixels)
    patch = np.empty((SIDE_PX, SIDE_PX, 3), np.uint8)
    descriptor = os.open(work.out, os.O_WRONLY | os.O_CREAT)
    for row in range(len(work.candidates)):
        patch[:] = pixels[100 : 100 + SIDE_PX, 200 : 200 + SIDE_PX]
        gray = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY)
        np.count_nonzero(gray > CONFIG.white_level)
        os.pwrite(descriptor, patch.data, row * patch.nbytes)
    os.close(descriptor)
    return len(work.candidates)


def plain_script(work: Work) -> int:
    """Cut as scripts in tutorials do."""
    kept = []
    with openslide.OpenSlide(work.slide) as opened:
        for _, x, y in corners(work.candidates):
            pixels = np.array(opened.read_region((x, y), 0, (SIDE_PX, SIDE_PX)).convert("RGB"))
            if (pixels.mean(axis=2) > CONFIG.white_level).mean() <= CONFIG.max_white_fraction:
                kept.append(pixels)
    with h5py.File(work.out, "w") as file:
        file.create_dataset("patches", data=np.array(kept))
    return len(kept)


def others(work: Work, reader: Reader) -> int:
    """Cut with another reader; filter and writer are ours."""
    kept = []
    with write_shard(work.out, work.attributes("raw")) as writer:
        for place, pixels in reader(work.slide, work.candidates):
            white, black = white_and_black_fraction(pixels, CONFIG.white_level)
            if white <= CONFIG.max_white_fraction and black <= CONFIG.max_black_fraction:
                writer.put(place, pixels)
                kept.append(place)
        slots = np.array(kept)
        taken = work.candidates.take(slots)
        writer.keep(slots, {name: getattr(taken, name, taken.tissue_fraction) for name in COLUMNS})
    return len(kept)


COLUMNS = ("x_level0_px", "y_level0_px", "label", "tumour_fraction", "tissue_fraction", "white_fraction")


def corners(candidates: Candidates) -> Iterator[tuple[int, int, int]]:
    """Give place, x and y."""
    return zip(range(len(candidates)), candidates.x_level0_px.tolist(), candidates.y_level0_px.tolist(), strict=True)


def openslide_loop(slide: Path, candidates: Candidates) -> Iterator[tuple[int, Rgb]]:
    """Read as most scripts do."""
    with openslide.OpenSlide(slide) as opened:
        for place, x, y in corners(candidates):
            yield place, np.asarray(opened.read_region((x, y), 0, (SIDE_PX, SIDE_PX)).convert("RGB"))


def openslide_rows(slide: Path, candidates: Candidates) -> Iterator[tuple[int, Rgb]]:
    """Read neighbours of a row together."""
    with openslide.OpenSlide(slide) as opened:
        opened.set_cache(openslide.OpenSlideCache(512 << 20))
        run: list[tuple[int, int, int]] = []
        for corner in [*corners(candidates), None]:
            follows = bool(run) and corner is not None and corner[1:] == (run[-1][1] + SIDE_PX, run[-1][2])
            if run and (not follows or len(run) == 16):
                strip = opened.read_region(run[0][1:], 0, (SIDE_PX * len(run), SIDE_PX)).convert("RGB")
                pixels = np.asarray(strip)
                for number, (place, _, _) in enumerate(run):
                    yield place, np.ascontiguousarray(pixels[:, number * SIDE_PX : (number + 1) * SIDE_PX])
                run = []
            if corner is not None:
                run.append(corner)


def tiffslide_loop(slide: Path, candidates: Candidates) -> Iterator[tuple[int, Rgb]]:
    """Read with tiffslide."""
    from tiffslide import TiffSlide

    with TiffSlide(slide) as opened:
        for place, x, y in corners(candidates):
            yield place, np.ascontiguousarray(opened.read_region((x, y), 0, (SIDE_PX, SIDE_PX), as_array=True))


def pyvips_fetch(slide: Path, candidates: Candidates) -> Iterator[tuple[int, Rgb]]:
    """Read with libvips' TIFF loader, whose cache keeps the tiles of a row."""
    import pyvips

    region = pyvips.Region.new(pyvips.Image.tiffload(str(slide), access="random"))
    for place, x, y in corners(candidates):
        fetched = region.fetch(x, y, SIDE_PX, SIDE_PX)
        yield place, np.frombuffer(fetched, np.uint8).reshape(SIDE_PX, SIDE_PX, 3)


def cucim_cached(slide: Path, candidates: Candidates) -> Iterator[tuple[int, Rgb]]:
    """Read with cuCIM on the processor, its cache of decoded tiles turned on."""
    from cucim.clara import CuImage

    CuImage.cache("per_process", memory_capacity=512)
    opened = CuImage(str(slide))
    for place, x, y in corners(candidates):
        yield place, np.ascontiguousarray(opened.read_region((x, y), (SIDE_PX, SIDE_PX), 0))


def measure_job(slide: Path, root: Path) -> dict[str, float]:
    """Run all that Layer 1 does with one slide of a test split."""
    shutil.rmtree(root, ignore_errors=True)
    record = SlideRecord(name=slide.stem, path=slide, patient="p", truth="negative", exhaustive=True)
    config = PreprocessConfig(patch_px=SIDE_PX, grid_stride_px=SIDE_PX, grid_min_tissue_fraction=0.5)
    job = SlideJob(record=record, split="test", config=config, seed=0, mpp=None, root=root, folder=root / "patches")
    outcomes = []

    def run() -> int:
        outcomes.append(preprocess_slide(job))
        return outcomes[0].grid_patches + outcomes[0].normal_patches

    measured = clocked(run)
    size_bytes = sum(file.artifact.bytes for file in outcomes[0].files)
    shutil.rmtree(root)
    return {**measured, "bytes_a_patch": size_bytes / measured["patches"]}


def measure_reading(encoding: str, folder: Path) -> dict[str, float]:
    """Read a shard that was cut before, in batches."""
    path = folder / f"{encoding}.h5"
    generator = np.random.default_rng(0)
    memory = np.empty((BATCH, SIDE_PX, SIDE_PX, 3), np.uint8)
    with open_shard(path) as shard:
        if encoding == "tiles":
            starts = generator.integers(0, shard.rows - BATCH, BATCHES[encoding])
            batches = [np.arange(start, start + BATCH) for start in starts]
        else:
            batches = list(generator.integers(0, shard.rows, (BATCHES[encoding], BATCH)))

        def read() -> int:
            for rows in batches:
                shard.read(rows, memory)
            return len(batches) * BATCH

        return {**clocked(read), "bytes_a_patch": path.stat().st_size / shard.rows}
