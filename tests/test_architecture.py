"""The arrows between the rooms of the tree, read from the imports by AST; and the size of files and functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
STAGES = ["slides", "patches", "training", "inference", "explain", "report"]
FOUNDATIONS = {"tasks.errors", "tasks.atomic", "tasks.digests", "tasks.artifacts"}
ORCHESTRATION = {"prefect", "prefect_dask", "dask", "distributed", "dask_jobqueue", "typer"}
SOURCES = sorted(
    path for room in ("tasks", "transfer", "flows", "deployments") for path in (REPOSITORY / room).rglob("*.py")
)


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(str(node.module))
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def reads_associated_images(tree: ast.AST) -> bool:
    """Whether a name, an attribute, an import or a text of the code is that of OpenSlide's access to them."""
    words: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            words.add(node.attr)
        elif isinstance(node, ast.Name):
            words.add(node.id)
        elif isinstance(node, ast.alias):
            words.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.add(node.value)
    return any("associated_image" in word for word in words)


def in_room(room: str) -> list[Path]:
    return [path for path in SOURCES if path.relative_to(REPOSITORY).parts[0] == room]


@pytest.mark.parametrize("path", in_room("tasks"), ids=module_name)
def test_tasks_know_no_orchestration_no_transfer_and_no_flows(path: Path) -> None:
    forbidden = {"flows", "transfer", "deployments"} | (set() if path.name == "task.py" else ORCHESTRATION)
    assert not rooms(imported(path)) & forbidden


@pytest.mark.parametrize("path", in_room("tasks"), ids=module_name)
def test_a_stage_imports_only_itself_and_earlier_stages(path: Path) -> None:
    parts = path.relative_to(REPOSITORY).parts
    own = STAGES.index(parts[1]) if parts[1] in STAGES else -1
    seen = {name.split(".")[1] for name in imported(path) if name.startswith("tasks.")}
    later = {stage for stage in seen if stage in STAGES and STAGES.index(stage) > own}
    assert not later


@pytest.mark.parametrize("path", in_room("tasks"), ids=module_name)
def test_tensorflow_stays_where_a_cpu_site_does_not_need_it(path: Path) -> None:
    parts = path.relative_to(REPOSITORY).parts
    allowed: set[str] = set()
    if parts[1] in ("training", "inference", "explain"):
        allowed |= {"tensorflow", "keras"}
    if parts[1] == "training":
        allowed |= {"horovod"}
    assert rooms(imported(path)) & {"tensorflow", "keras", "sklearn", "horovod"} <= allowed


@pytest.mark.parametrize("path", in_room("transfer"), ids=module_name)
def test_transfer_knows_no_pathology(path: Path) -> None:
    names = imported(path)
    assert not rooms(names) & ({"flows", "deployments"} | (set() if path.name == "task.py" else ORCHESTRATION))
    modules = {".".join(name.split(".")[:2]) for name in names if name.startswith("tasks.")}
    assert modules <= FOUNDATIONS


@pytest.mark.parametrize("path", in_room("deployments"), ids=module_name)
def test_deployments_import_no_stage_and_no_flow(path: Path) -> None:
    names = imported(path)
    assert not rooms(names) & {"flows", "transfer"}
    modules = {".".join(name.split(".")[:2]) for name in names if name.startswith("tasks.")}
    assert modules <= FOUNDATIONS | {"tasks.config", "tasks.settings"}


@pytest.mark.parametrize("name", sorted(FOUNDATIONS - {"tasks.artifacts"}))
def test_the_shared_foundations_need_the_standard_library_only(name: str) -> None:
    path = REPOSITORY / f"{name.replace('.', '/')}.py"
    foreign = {room for room in rooms(imported(path)) if room not in sys.stdlib_module_names}
    assert foreign <= {"tasks"}
    modules = {".".join(found.split(".")[:2]) for found in imported(path) if found.startswith("tasks.")}
    assert modules <= FOUNDATIONS


def test_a_site_without_tensorflow_can_preprocess_and_coordinate() -> None:
    hidden = "import sys\nfor name in ('tensorflow', 'keras', 'horovod'): sys.modules[name] = None\n"
    imports = "import flows.pipeline, flows.cli, flows.preprocess, flows.stage, flows.report"
    subprocess.run([sys.executable, "-c", hidden + imports], check=True, timeout=120)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_files_and_functions_fit_a_head_and_a_screen(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            length = int(node.end_lineno or 0) - first.lineno + 1
            assert length <= 45, f"{path}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_label_and_macro_images_are_never_read(path: Path) -> None:
    """They show names and numbers of patients."""
    assert not reads_associated_images(ast.parse(path.read_text()))


@pytest.mark.parametrize(
    "code",
    [
        "slide.associated_images['label']",
        "getattr(slide, 'associated_images')",
        "from openslide.lowlevel import read_associated_image",
        "openslide.lowlevel.get_associated_image_names(slide)",
    ],
)
def test_reading_a_label_image_would_be_found(code: str) -> None:
    assert reads_associated_images(ast.parse(code))


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_nothing_dangerous_is_in_the_tree(path: Path) -> None:
    forbidden = {"pickle", "shelve", "marshal", "dill"}
    assert not rooms(imported(path)) & forbidden
    tree = ast.parse(path.read_text())
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & {
        "AutoAddPolicy", "WarningPolicy", "load_model", "eval", "exec",
        # Keras builds what a file tells it to by these.
        "from_config", "deserialize", "model_from_json",
    }  # fmt: skip
    assert not imported(path) & {"os.system", "os.popen"}
    assert not {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & {
        "os.system",
        "os.popen",
    }
