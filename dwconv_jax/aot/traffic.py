"""The memory that a compiled program reads and writes."""

from dwconv_jax.aot.hlo import (
    Computation,
    Instruction,
    Kernel,
    Program,
    array_bytes,
    main_memory_bytes,
)

_SLICES = ("dynamic-slice", "slice", "gather")
_STARTED_SLICES = tuple(f"{slice_}-start" for slice_ in _SLICES)
_UPDATES = ("dynamic-update-slice", "scatter")


def memory_traffic(program: Program) -> int:
    """Returns the bytes that one device moves to and from its main memory in a run.

    The sum over kernels of inputs and outputs. Of a slice only the slice counts, of an update in
    place only the update; on-chip memory does not count.
    """
    return sum(kernel.times * _traffic(program, kernel) for kernel in program.kernels())


def _traffic(program: Program, kernel: Kernel) -> int:
    instruction = kernel.instruction
    operands = [kernel.computation[name].shape for name in instruction.operands]
    read = [sum(main_memory_bytes(shape)) for shape in operands]
    written = main_memory_bytes(instruction.shape)
    if instruction.opcode == "fusion":
        return _fusion_traffic(program.computations[instruction.called[0]], read, written)
    if instruction.opcode in _SLICES:
        return 2 * sum(written)
    if instruction.opcode in _UPDATES:
        return 2 * read[_update_operand(instruction)]
    if instruction.opcode == "copy-start":  # its result: destination, source, context
        return sum(read) + written[0]
    if instruction.opcode in _STARTED_SLICES:  # its result: operands, slice, context
        slice_ = array_bytes(instruction.shape)[1]
        return (slice_ if read[0] else 0) + written[1]
    if instruction.opcode.endswith("-start"):  # its result names its operands again
        return sum(read) + max(written, default=0)
    return sum(read) + sum(written)


def _fusion_traffic(fused: Computation, read: list[int], written: list[int]) -> int:
    users: dict[str, list[Instruction]] = {}
    for instruction in fused.values():
        for operand in instruction.operands:
            users.setdefault(operand, []).append(instruction)
    parameters = [p for p in fused.values() if p.opcode == "parameter"]
    total = 0
    for parameter in parameters:
        whole = read[int(parameter.arguments)]
        total += min(whole, sum(_part_read(parameter, user) for user in users[parameter.name]))
    for result, whole in zip(_results(fused), written, strict=False):
        total += min(whole, _part_written(result, fused))
    return total


def _part_read(parameter: Instruction, user: Instruction) -> int:
    if user.operands[0] == parameter.name and user.opcode in _SLICES:
        return sum(main_memory_bytes(user.shape))
    if user.operands[0] == parameter.name and user.opcode in _UPDATES:
        return 0
    return sum(main_memory_bytes(parameter.shape))


def _results(fused: Computation) -> list[Instruction]:
    root = next(instruction for instruction in fused.values() if instruction.is_root)
    return [fused[name] for name in root.operands] if root.opcode == "tuple" else [root]


def _part_written(result: Instruction, fused: Computation) -> int:
    if result.opcode in _UPDATES:
        return sum(main_memory_bytes(fused[result.operands[_update_operand(result)]].shape))
    return sum(main_memory_bytes(result.shape))


def _update_operand(instruction: Instruction) -> int:
    return 1 if instruction.opcode == "dynamic-update-slice" else -1
