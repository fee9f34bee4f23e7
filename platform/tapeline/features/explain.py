"""What a plan is made of: the parts that its features share, the size of its state, what a smaller plan would save."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tapeline.features.plan import FeaturePlan
from tapeline.features.request import FeatureRequest
from tapeline.indicators.expression import Expression, Operation

SLOT_BYTES = 8


@dataclass(frozen=True)
class SharedPart:
    """A compiled step that several features use and a plan computes once.

    Attributes
    ----------
    step
        The step with its operands, shortened.
    features
        Column names of the first output of each feature that uses it.
    """

    step: str
    features: tuple[str, ...]


@dataclass(frozen=True)
class PlanExplanation:
    """What a plan computes and holds.

    Attributes
    ----------
    outputs
        Name, unit and warm-up (rows) of each.
    inputs
        Row columns.
    operations
        Operations that the plan computes for a row, arithmetic included.
    operations_alone
        What its features would compute, each in a plan of its own.
    shared
        Steps used by more than one feature, those of most features first.
    state_bytes
        Size of one entity's state, header included.
    state_bytes_alone
        What its features would hold, each in a plan of its own.
    """

    outputs: tuple[tuple[str, str, int], ...]
    inputs: tuple[str, ...]
    operations: int
    operations_alone: int
    shared: tuple[SharedPart, ...]
    state_bytes: int
    state_bytes_alone: int


def explain_plan(plan: FeaturePlan) -> PlanExplanation:
    """Explain a plan; nothing is compiled.

    Parameters
    ----------
    plan
        Any plan; one that was cut is explained as it is.

    Returns
    -------
    PlanExplanation
    """
    users: dict[str, list[str]] = {}
    operations: dict[str, Operation] = {}
    alone_count, alone_bytes = 0, 0
    for request in plan.requests:
        kept = [name for name in request.columns if name in plan.outputs]
        single = FeaturePlan([request], keep=kept)
        alone_bytes += SLOT_BYTES * single.state_size
        frame = request.frame  # what is computed on bars of one time frame is not shared with another
        found = _operations(_expressions_of(request, kept))
        needed = {f"{frame}:{key}": operation for key, operation in found.items()}
        alone_count += len(needed)
        operations |= needed
        for key in needed:
            users.setdefault(key, []).append(kept[0])
    shared = [
        SharedPart(spelled_step(operation), tuple(users[key]))
        for key, operation in operations.items()
        if operation.primitive is not None and len(users[key]) > 1
    ]
    return PlanExplanation(
        outputs=tuple(zip(plan.outputs, plan.units, plan.warm_up, strict=True)),
        inputs=plan.inputs,
        operations=len(operations),
        operations_alone=alone_count,
        shared=tuple(sorted(shared, key=lambda part: -len(part.features))),
        state_bytes=SLOT_BYTES * plan.state_size,
        state_bytes_alone=alone_bytes,
    )


def _expressions_of(request: FeatureRequest, kept: Sequence[str]) -> Iterator[Expression]:
    for name, expression in zip(request.columns, request.expressions, strict=True):
        if name in kept:
            yield expression


def _operations(expressions: Iterator[Expression]) -> dict[str, Operation]:
    """Every operation that the expressions need, by key; constants are part of the operations that use them."""
    found: dict[str, Operation] = {}
    waiting = [expression.operation for expression in expressions]
    while waiting:
        operation = waiting.pop()
        if operation.key not in found and operation.kind != "constant":
            found[operation.key] = operation
            waiting += [operand.operation for operand in operation.operands]
    return found


def spelled_step(operation: Operation, depth: int = 3) -> str:
    """An operation as a call, with its operands down to a depth; ``[2]`` is the second of several results."""
    if operation.kind in {"input", "constant"}:
        return f"{operation.constants[0]}"
    if operation.kind == "guard":
        return _spelled(operation.operands[0], depth)
    if depth == 0:
        return "…"
    operands = [_spelled(operand, depth - 1) for operand in operation.operands]
    if operation.primitive is None:
        return f"({f' {operation.kind} '.join(operands)})"
    return f"{operation.primitive.name}({', '.join([*operands, *map(str, operation.constants)])})"


def _spelled(expression: Expression, depth: int) -> str:
    several = expression.operation.primitive is not None and expression.operation.primitive.outputs > 1
    return f"{spelled_step(expression.operation, depth)}{f'[{expression.index + 1}]' if several and depth else ''}"
