"""Rules about the source that a reader relies on: layers, imports, sizes (docs/architecture.md)."""

import ast
import subprocess
import sys
import warnings
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gunicorn_asgi"
MODULES = {
    ".".join(("gunicorn_asgi", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# From top to bottom; imports go downward or stay in their layer.
LAYERS = (
    ("gunicorn_asgi", "gunicorn_asgi.__main__"),
    ("gunicorn_asgi.workers", "gunicorn_asgi.life_cycle", "gunicorn_asgi.gunicorn_config"),
    (
        "gunicorn_asgi.server",
        "gunicorn_asgi.lifespan",
        "gunicorn_asgi.event_loop",
        "gunicorn_asgi.listener",
        "gunicorn_asgi.fleet",
        "gunicorn_asgi.recycling",
        "gunicorn_asgi.blocked_loop",
        "gunicorn_asgi.process_exit",
        "gunicorn_asgi.failed_application",
        "gunicorn_asgi.request_hooks",
        "gunicorn_asgi.env_file",
        "gunicorn_asgi.notifier",
    ),
    ("gunicorn_asgi.connection",),
    (
        "gunicorn_asgi.scope",
        "gunicorn_asgi.proxy",
        "gunicorn_asgi.access_log",
        "gunicorn_asgi.access_line",
        "gunicorn_asgi.gunicorn_objects",
        "gunicorn_asgi.tls",
        "gunicorn_asgi.metrics",
        "gunicorn_asgi.applications",
    ),
    ("gunicorn_asgi.options", "gunicorn_asgi.option_kinds", "gunicorn_asgi.gunicorn_settings"),
    ("gunicorn_asgi.wire",),
    ("gunicorn_asgi.settings", "gunicorn_asgi.errors", "gunicorn_asgi.asgi_types"),
)

TOP_MODULES = {
    "gunicorn_asgi.__main__",
    "gunicorn_asgi.workers",
    "gunicorn_asgi.life_cycle",
    "gunicorn_asgi.gunicorn_config",
}
FORBIDDEN_EVERYWHERE = ("uvicorn", "uvicorn_worker", "hypercorn", "gunicorn.asgi", "gunicorn.workers.gasgi")
FORBIDDEN_IN_WIRE = ("asyncio", "socket", "ssl", "selectors", "logging", "time", "datetime", "threading", "uvloop")
LONG_MODULE_LINES = 500


def imports(module: str) -> Iterator[str]:
    """Absolute names of all that a module imports, also inside functions."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join((*base, *((node.module or "").split(".") if node.module else ())))
            for alias in node.names:
                # A name of a package may be one of its modules.
                yield f"{origin}.{alias.name}" if node.module is None or f"{origin}.{alias.name}" in MODULES else origin


def is_part_of(name: str, parent: str) -> bool:
    return name == parent or name.startswith(parent + ".")


def layer(module: str) -> int:
    places = [
        number
        for number, names in enumerate(LAYERS)
        if any(module == name if name == "gunicorn_asgi" else is_part_of(module, name) for name in names)
    ]
    assert len(places) == 1, f"{module} has no place in the layers"
    return places[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downward(module: str) -> None:
    upward = [name for name in imports(module) if name in MODULES and layer(name) < layer(module)]
    assert upward == []


def test_no_import_cycles() -> None:
    graph = {module: {name for name in imports(module) if name in MODULES} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("module", [name for name in MODULES if is_part_of(name, "gunicorn_asgi.wire")])
def test_wire_has_no_input_output_clock_or_log(module: str) -> None:
    assert [name for name in imports(module) if name.split(".")[0] in FORBIDDEN_IN_WIRE] == []


@pytest.mark.parametrize("module", MODULES)
def test_only_the_top_modules_import_gunicorn(module: str) -> None:
    imported = [name for name in imports(module) if is_part_of(name, "gunicorn")]
    assert module in TOP_MODULES or imported == []


@pytest.mark.parametrize("module", MODULES)
def test_no_other_server_is_imported(module: str) -> None:
    assert [name for name in imports(module) if any(is_part_of(name, other) for other in FORBIDDEN_EVERYWHERE)] == []


def test_serving_loads_no_other_server() -> None:
    """What is imported at run time, by whomever."""
    program = "import sys, gunicorn_asgi.workers; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True, cwd=PACKAGE.parent).split()
    assert "gunicorn_asgi.server" in loaded
    assert [name for name in loaded if any(is_part_of(name, other) for other in FORBIDDEN_EVERYWHERE)] == []


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("module", MODULES)
def test_long_modules_are_reported(module: str) -> None:
    """A reason to look whether a module holds two things, not a rule."""
    lines = len(MODULES[module].read_text("utf-8").splitlines())
    if lines > LONG_MODULE_LINES:
        warnings.warn(f"{module} has {lines} lines", stacklevel=1)


def test_the_rules_would_notice() -> None:
    """The helpers above see what they are meant to see."""
    assert "gunicorn_asgi.workers" in set(imports("gunicorn_asgi"))
    assert "asyncio" in set(imports("gunicorn_asgi.server"))
    assert "gunicorn.arbiter" in set(imports("gunicorn_asgi.life_cycle"))
    assert "gunicorn_asgi.wire.headers" in set(imports("gunicorn_asgi.wire.http1_request"))
    assert layer("gunicorn_asgi.wire.headers") > layer("gunicorn_asgi.connection.http1")
