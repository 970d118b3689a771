"""One program on one slide, for `benchmarks/programs.py`; runs in that program's own environment."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

SIDE_PX = 224
MPP = 0.25
Run = Callable[[Path, Path], int]


def camnet() -> tuple[Run, str]:
    """Layer 1 of CamNet, as `benchmarks/patches.py` measures it."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from benchmarks.patch_methods import measure_job

    return lambda slide, out: int(measure_job(slide, out)["patches"]), version("camnet")


def hs2p(backend: str) -> tuple[Run, str]:
    """Tiles as JPEG files in a tar."""
    from hs2p import SegmentationConfig, SlideSpec, TilingConfig, tile_slides

    def run(slide: Path, out: Path) -> int:
        spec = SlideSpec(sample_id=slide.stem, image_path=slide, spacing_at_level_0=MPP)
        tiling = TilingConfig(
            requested_spacing_um=MPP, requested_tile_size_px=SIDE_PX, tolerance=0.05, overlap=0.0, backend=backend
        )
        made = tile_slides(
            [spec], tiling=tiling, segmentation=SegmentationConfig(method="hsv"), output_dir=out, save_tiles=True
        )
        return int(made[0].num_tiles)

    return run, version("hs2p")


def lazyslide() -> tuple[Run, str]:
    """Tiles as arrays."""
    import lazyslide as zs

    def run(slide: Path, out: Path) -> int:
        wsi = zs.open_wsi(str(slide), store=str(out / "store.zarr"))
        zs.pp.find_tissues(wsi)
        zs.pp.tile_tissues(wsi, SIDE_PX, mpp=MPP, slide_mpp=MPP)
        return sum(1 for _ in wsi.iter.tile_images("tiles"))

    return run, version("lazyslide")


def tiatoolbox() -> tuple[Run, str]:
    """Tiles as arrays."""
    from tiatoolbox.tools.patchextraction import SlidingWindowPatchExtractor

    def run(slide: Path, out: Path) -> int:
        extractor = SlidingWindowPatchExtractor(
            input_img=slide, patch_size=SIDE_PX, input_mask="otsu", resolution=0, units="level", min_mask_ratio=0.5
        )
        return sum(1 for _ in extractor)

    return run, version("tiatoolbox")


PROGRAMS: dict[str, Callable[[], tuple[Run, str]]] = {
    "camnet": camnet,
    "hs2p": lambda: hs2p("auto"),
    "hs2p-openslide": lambda: hs2p("openslide"),
    "lazyslide": lazyslide,
    "tiatoolbox": tiatoolbox,
}


def cpu_s() -> float:
    """User and system seconds of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main(name: str, slide: Path, folder: Path) -> None:
    """Run one program and print patches and seconds as JSON."""
    run, program_version = PROGRAMS[name]()
    out = folder / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    before_s, started = cpu_s(), time.monotonic()
    patches = run(slide, out)
    measured = {"patches": patches, "cpu_s": cpu_s() - before_s, "wall_s": time.monotonic() - started}
    shutil.rmtree(out, ignore_errors=True)
    print(json.dumps({**measured, "version": program_version}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
