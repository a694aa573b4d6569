"""`python -m podlt.program.operation_page`: writes docs/OPERATORS.md, what a program may hold, from the tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from podlt.exact.operations import ROWS
from podlt.exact.operations.row import Family
from podlt.program import decompositions
from podlt.program.draws import FACTORIES, OF_TENSORS
from podlt.program.operations import STOCK
from podlt.program.refusals import ADVICE, FIXED, KEEP_SHAPES
from podlt.program.source_lines import operation_name

PAGE = Path(__file__).parents[3] / "docs" / "OPERATORS.md"
WIDTH = 120

INTRODUCTION = """# Operations: what trains, what is refused

Written by `python -m podlt.program.operation_page` from the tables that captures read; a test holds it to them. Names
are those of ATen, PyTorch's own list of operations, and overloads stand in brackets where there are several:
`torch.nn.functional.linear` is `addmm`, `nn.BatchNorm2d` is `_native_batch_norm_legit_functional`. A capture says which
operation it met, and at which line of the user's code. Whole models that are tried are in [MODELS.md](MODELS.md)."""

FAMILIES = {
    Family.ELEMENTWISE: "Element by element",
    Family.REDUCTION: "Sums, extremes, softmax, losses",
    Family.PRODUCT: "Products, convolutions, attention, recurrences",
    Family.PLACE: "Order and places: sorts, gathers, scatters, embeddings",
    Family.STRUCTURE: "Moves of values",
    Family.VIEW: "Views",
    Family.FACTORY: "Tensors from numbers",
}
"""The families of rows, in the order of the page."""


def page() -> str:
    """The page's text."""
    parts = [
        INTRODUCTION,
        f"## What programs hold: {len(STOCK)} operations",
        "Each has one definition, and the same bits on every machine.",
    ]
    for family, title in FAMILIES.items():
        parts.append(f"**{title}.** {_listed(name for name in STOCK if ROWS[name].family is family)}")
    apart = {operation_name(item) for item in (*decompositions.RULES, *decompositions.COMPOSITIONS)}
    drawn = {*FACTORIES, *OF_TENSORS, "rand.default", "rand_like.default", "native_dropout.default"}
    parts += [
        "## What captures take apart",
        "Into the above, forwards and backwards; the numbers of a capture are held against the module's own.",
        _listed(apart - drawn - STOCK),
        f"**Random numbers**, by draws that every worker repeats: {_listed(drawn)}",
        "## What is refused, and what to do instead\n\nWhatever stands on neither list is refused by name. Of these a "
        "refusal also says what helps (`*`: whatever a name goes on with):",
        "| operations | why, and what to do |\n| --- | --- |\n" + "\n".join(_refusals()),
    ]
    return "\n\n".join("\n".join(_wrapped(part)) for part in parts) + "\n"


def _refusals() -> Iterable[str]:
    """Rows of the last table."""
    for words, advice in ADVICE.items():
        names = ", ".join(f"`{word}*`" for word in words)
        yield f"| {names} | {advice} |"
    yield f"| what has as many results as its data say (`nonzero`, `masked_select`, `unique`) | {KEEP_SHAPES} |"
    for name, advice in FIXED.items():
        yield f"| `{name}` | {advice} |"
    yield "| other random operations | every worker repeats dropout, `rand` and the draws above, and no others |"
    yield "| what writes to a parameter or an input | give the result as a value of its own |"
    yield (
        "| parameters and constants of float64, float16, bfloat16 or complex numbers | "
        "use float32; complex values within a step are kept as pairs |"
    )


def _listed(names: Iterable[str]) -> str:
    """Names in order, overloads of one operation together."""
    overloads: dict[str, list[str]] = {}
    for name in sorted(names):
        packet, _, overload = name.partition(".")
        overloads.setdefault(packet, []).append(overload)
    several = {packet: f" ({', '.join(found)})" if len(found) > 1 else "" for packet, found in overloads.items()}
    return ", ".join(f"`{packet}`{others}" for packet, others in several.items()) + "."


def _wrapped(text: str) -> Iterable[str]:
    """Lines of at most `WIDTH` characters; what is a line of its own, or a table, stays."""
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" ") if not paragraph.startswith(("|", "#")) else [paragraph]:
            if line and len(line) + len(word) >= WIDTH:
                yield line
                line = word
            else:
                line = f"{line} {word}" if line else word
        yield line


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
