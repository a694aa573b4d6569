"""The house rules that a parser can hold: docstrings, names, sizes of files, imports, and what is never called."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1] / "src" / "podlt"
MAX_LINES = 400

WINGS = {
    *("bench", "data", "log", "protocol", "sim", "store", "verify"),
    *("canonical.py", "crypto.py", "dice.py", "errors.py", "extras.py", "faults.py", "model_file.py", "models.py"),
    *("recipe.py", "signature_pool.py", "units.py"),
}
"""Folders and modules whose docstrings and identifiers are in the house's form; grows until it is the whole tree."""

DUPLICATES = {"Connected", "Geometry", "Invited", "Joined", "Preparing", "Spent"}
"""Public classes that share a name with another one; the lead empties this when the last renames are merged."""

SECTION = re.compile(r"(?P<indent> *)(?P<name>Args|Attributes|Raises):")
ENTRY = re.compile(r"\*{0,2}(?P<name>[A-Za-z_]\w*): \S")
PACKED = re.compile(r"; (?P<name>[A-Za-z_]\w*): ")
DIALECT = re.compile(r"(?:^|_)(?:told|kept|beside)(?:$|_)", re.IGNORECASE)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.ClassDef | Function


@cache
def modules() -> dict[str, ast.Module]:
    """The parsed modules of the tree by their path below `src/podlt`."""
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}


@cache
def nodes(path: str) -> list[ast.AST]:
    """Every node of a module's tree."""
    return [*ast.walk(modules()[path])]


def in_wings() -> list[str]:
    return [path for path in modules() if path.split("/")[0] in WINGS]


@cache
def classes() -> dict[str, ast.ClassDef]:
    """Every class of the tree by its name."""
    return {node.name: node for path in modules() for node in nodes(path) if isinstance(node, ast.ClassDef)}


# -- docstrings ----------------------------------------------------------------------------------------------------


def parameters(function: Function) -> set[str]:
    """The names of a function's parameters."""
    arguments = function.args
    plain = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return {argument.arg for argument in plain if argument is not None} - {"self", "cls"}


def members(node: ast.ClassDef) -> set[str]:
    """What a class says it has, and its bases: fields, methods, `__init__`'s parameters, attributes set on `self`."""
    found: set[str] = set()
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes():
            found |= members(classes()[base.id])
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found.add(statement.target.id)
        elif isinstance(statement, Function):
            found.add(statement.name)
            found |= parameters(statement) if statement.name == "__init__" else set()
            found |= {
                target.attr
                for target in ast.walk(statement)
                if isinstance(target, ast.Attribute)
                and isinstance(target.value, ast.Name)
                and target.value.id == "self"
            }
    return found


def sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """The blocks of a docstring: which, and its lines without the indent of an entry."""
    lines = iter(text.splitlines())
    for line in lines:
        head = SECTION.fullmatch(line)
        if head is None:
            continue
        indent = len(head["indent"]) + 4
        block = []
        for inner in lines:
            if not inner.startswith(" " * indent):
                break
            block.append(inner[indent:])
        yield head["name"], block


def faults_of(node: Documented) -> list[str]:
    """What is wrong with the blocks of a docstring."""
    found = []
    for section, block in sections(ast.get_docstring(node) or ""):
        known = members(node) if isinstance(node, ast.ClassDef) else parameters(node)
        if not block:
            found.append(f"{section}: an empty block, or one that is not indented by four")
        for line in block:
            if (packed := PACKED.search(line)) is not None:
                found.append(f"{section}: {packed['name']!r} shares a line with another entry")
            if line.startswith(" "):
                continue  # an entry goes on
            entry = ENTRY.match(line)
            if entry is None:
                found.append(f"{section}: expected `name: text`, got {line!r}")
            elif section != "Raises" and entry["name"] not in known:
                found.append(f"{section}: {entry['name']!r} is no parameter or field")
            elif section == "Raises" and not entry["name"].lstrip("_")[:1].isupper():
                found.append(f"{section}: {entry['name']!r} is no error")
    return found


def test_each_argument_attribute_and_error_has_a_line_of_its_own() -> None:
    found = {
        f"{path}:{node.lineno}, {node.name}": faults_of(node)
        for path in in_wings()
        for node in nodes(path)
        if isinstance(node, Documented)
    }
    assert {where: faults for where, faults in found.items() if faults} == {}


def test_a_packed_block_an_unknown_name_and_a_paragraph_are_found() -> None:
    source = 'def f(a: int, b: int) -> None:\n    """Does.\n\n    Args:\n        {}\n    """\n'

    def faults(block: str) -> list[str]:
        node = ast.parse(source.format(block)).body[0]
        assert isinstance(node, ast.FunctionDef)
        return faults_of(node)

    assert faults("a: lines, at least 1.\n        b: seconds;\n            more of it.") == []
    assert faults("a: lines; b: seconds.") == ["Args: 'b' shares a line with another entry"]
    assert faults("c: lines.") == ["Args: 'c' is no parameter or field"]
    assert faults("of any kind") == ["Args: expected `name: text`, got 'of any kind'"]


# -- names ---------------------------------------------------------------------------------------------------------


def test_a_public_class_name_stands_once_in_the_tree() -> None:
    names = Counter(
        node.name
        for path in modules()
        for node in nodes(path)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, count in names.items() if count > 1} - DUPLICATES == set()


def identifiers(path: str) -> Iterator[tuple[str, int]]:
    """Every identifier that a module defines or uses, with its line."""
    for node in nodes(path):
        match node:
            case ast.Name():
                yield node.id, node.lineno
            case ast.Attribute():
                yield node.attr, node.lineno
            case ast.arg():
                yield node.arg, node.lineno
            case ast.keyword() if node.arg is not None:
                yield node.arg, node.value.lineno
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name, node.lineno
            case ast.alias():
                yield node.name, node.lineno


def test_no_identifier_is_of_the_private_dialect() -> None:
    found = [
        f"{path}:{line}: {name}" for path in in_wings() for name, line in identifiers(path) if DIALECT.search(name)
    ]
    assert found == []


def test_every_wing_that_is_done_is_there() -> None:
    assert {path.split("/")[0] for path in in_wings()} == WINGS


# -- files and imports ---------------------------------------------------------------------------------------------


def test_no_file_is_longer_than_a_reader_takes_in() -> None:
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in modules()}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def dotted(path: str) -> str:
    """The name of a module, given its path below `src/podlt`."""
    return ".".join(["podlt", *path.removesuffix(".py").removesuffix("__init__").strip("/").split("/")]).rstrip(".")


def imported(tree: ast.Module, names: set[str]) -> set[str]:
    """The modules of podlt that a module imports when it is loaded itself."""
    found: set[str] = set()
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, Function | ast.Lambda) or is_for_types_only(node):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & names
            found |= inner
            if len(inner) < len(node.names):
                found.add(node.module)
        todo += ast.iter_child_nodes(node)
    return found & names


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, each the next one; none if there is no circle."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if found := visit(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := visit(name, []))), [])


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = {dotted(path) for path in modules()}
    graph = {dotted(path): imported(tree, names) for path, tree in modules().items()}
    assert "podlt.protocol.rules" in graph["podlt.protocol.manager"]  # the graph is not an empty one
    assert circle(graph) == []


def test_a_circle_of_imports_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


# -- what the core knows, and what nobody calls --------------------------------------------------------------------

PURE = {"protocol", "log", "verify", "signature_pool.py", "canonical.py", "crypto.py", "units.py", "errors.py"}
IMPURE = {"torch", "time", "datetime", "socket", "random", "os", "secrets", "subprocess", "asyncio", "numpy"}
CODE_FROM_BYTES = {"pickle", "marshal", "shelve"}


def packages(path: str) -> set[str]:
    """The packages that a module imports anywhere in it."""
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_the_rules_know_no_clock_dice_socket_or_tensor() -> None:
    paths = [path for path in modules() if path.split("/")[0] in PURE]
    assert len(paths) > 15
    found = {path: packages(path) & (IMPURE | CODE_FROM_BYTES | {"importlib"}) for path in paths}
    assert {path: names for path, names in found.items() if names} == {}


def test_verifying_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, podlt.verify, podlt.sim; print(sorted({'torch', 'numpy', 'numba'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_that_came_from_elsewhere_is_ever_executed_or_unpickled() -> None:
    for path in modules():
        assert not packages(path) & CODE_FROM_BYTES, path
        calls = [node.func for node in nodes(path) if isinstance(node, ast.Call)]
        assert not {"eval", "exec"} & {f.id for f in calls if isinstance(f, ast.Name)}, path
        loads = [f for f in calls if isinstance(f, ast.Attribute) and f.attr == "load"]
        assert not any(isinstance(f.value, ast.Name) and f.value.id in ("torch", "pickle") for f in loads), path
