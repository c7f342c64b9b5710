"""Tensors that the author wrote into a forward have the names that he gave them there."""

from __future__ import annotations

from porter.ir import Program, Value


def name_constants(program: Program) -> int:
    """`transform.lifted_tensor_0`, as torch numbers them, becomes `transform.mean`, or one of a list `transform.constants`.

    Returns how many got a name.
    """
    groups: dict[str, list[Value]] = {}
    for value in program.parameters.values():
        parent, _, leaf = (value.path or "").rpartition(".")
        if leaf.startswith("lifted_tensor"):
            known = value.name if value.name and "lifted_tensor" not in value.name else "constants"
            groups.setdefault(f"{parent}.{known}".lstrip("."), []).append(value)
    others = {*program.parameters, *program.modules}
    count = 0
    for path, values in groups.items():
        if any(other == path or other.startswith(f"{path}.") for other in others):
            continue
        for index, value in enumerate(values):
            alone = path.removesuffix("s") if path.endswith("constants") else path
            value.path = alone if len(values) == 1 else f"{path}.{index}"
            count += 1
    return count
