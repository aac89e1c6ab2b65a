"""What the traffic of an answer tells of it, and what that costs: in a line for people."""

from collections.abc import Mapping

from scripts.failure import Document


def shaping(privacy: Document) -> str:
    """By the `privacy` of an `ask` document."""
    shape = privacy["shape"]
    if shape is None:
        return "shaping 0: when tokens came, and how many, shows on every link"
    assert isinstance(shape, Mapping)
    left, size = float(shape["left_s"]), int(shape["link_bytes"])
    return (
        f"shaping {privacy['shaping']}: a prompt of up to {shape['prompt_cells']} cells and an "
        f"answer of up to {shape['answer_s']} s show, no more; {size / 1_000:.0f} kB on each link, "
        f"padding for {left:.0f} s yet"
    )
