"""Reports on a compiled training step: `dwconv-jax compile`."""

import dataclasses
from collections.abc import Iterable

import jax

from dwconv_jax.aot.compile import CompiledStep, Cost
from dwconv_jax.aot.roofline import ACCELERATORS, least_seconds
from dwconv_jax.aot.topologies import family

_MEMORY_NAMES = {
    "parameters": "parameters and batch statistics",
    "optimizer": "optimizer state",
    "batch": "batch",
    "temporaries": "activations, gradients and other temporaries",
    "program": "program",
}


def report(step: CompiledStep) -> str:
    """Describes a step in Markdown: whether it fits, what it costs, how long it takes at least."""
    sections = [f"### {step.run.config.model.name} on {step.topology}", _setting(step)]
    if step.cost is None:
        sections.append(f"**Does not fit.** {step.refusal}")
    else:
        sections += [
            _verdict(step, step.cost),
            _memory(step.cost),
            _work(step, step.cost),
            _collectives(step.cost),
            _estimate(step, step.cost),
        ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _setting(step: CompiledStep) -> str:
    config, mesh = step.run.config, step.run.mesh
    count = sum(p.size for p in jax.tree.leaves(step.run.abstract_state.params))
    axes = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    return (
        f"{count:,} parameters; {mesh.size} devices ({axes}); {config.batch_size:,} examples a "
        f"step, {config.batch_size // mesh.size} on each device; {step.run.num_steps:,} steps; "
        f"compiled in {step.seconds:.0f} s."
    )


def _verdict(step: CompiledStep, cost: Cost) -> str:
    memory, accelerator = cost.memory, ACCELERATORS.get(family(step.topology))
    parts = {name: getattr(memory, name) for name in _MEMORY_NAMES}
    most = _MEMORY_NAMES[max(parts, key=lambda name: parts[name])]
    total = f"{memory.total / 2**20:,.0f}"
    if accelerator is None:
        return f"{total} MiB a device, most of it {most}."
    verdict = "Fits" if memory.total <= accelerator.memory else "Does not fit"
    return f"**{verdict}**: {total} of {accelerator.memory / 2**20:,.0f} MiB, most of it {most}."


def _memory(cost: Cost) -> str:
    sizes = dataclasses.asdict(cost.memory)
    rows = [(name, f"{sizes[key] / 2**20:,.1f}") for key, name in _MEMORY_NAMES.items()]
    return _table(("memory of a device", "MiB"), rows)


def _work(step: CompiledStep, cost: Cost) -> str:
    devices, operations = step.run.mesh.size, step.operations
    sent = sum(collective.sent for collective in cost.collectives)
    amounts = {
        "matrix unit": f"{operations.matrix / devices / 1e9:,.2f} GFLOP",
        "vector unit": f"{operations.vector / devices / 1e9:,.2f} GFLOP",
        "memory": f"{cost.traffic / 1e6:,.1f} MB",
        "network": f"{sent / 1e6:,.1f} MB",
    }
    seconds = _least_seconds(step, cost)
    if seconds is None:
        return _table(("work of a device in a step", "amount"), amounts.items())
    rows = [(part, amounts[part], f"{seconds[part] * 1e3:.2f}") for part in amounts]
    return _table(("work of a device in a step", "amount", "ms at peak rate"), rows)


def _least_seconds(step: CompiledStep, cost: Cost) -> dict[str, float] | None:
    accelerator = ACCELERATORS.get(family(step.topology))
    if accelerator is None:
        return None
    sent = sum(collective.sent for collective in cost.collectives)
    share = step.operations.divided_by(step.run.mesh.size)
    return least_seconds(accelerator, share, cost.traffic, sent)


def _collectives(cost: Cost) -> str:
    if not cost.collectives:
        return "No collectives."
    rows = [
        (c.kind, str(c.group), str(c.count), f"{c.payload / 1e6:,.2f}", f"{c.sent / 1e6:,.2f}")
        for c in cost.collectives
    ]
    header = ("collective", "devices", "count", "payload MB", "sent by a device MB")
    return _table(header, rows)


def _estimate(step: CompiledStep, cost: Cost) -> str:
    seconds = _least_seconds(step, cost)
    if seconds is None:
        return ""
    binding = max(seconds, key=lambda part: seconds[part])
    least = seconds[binding]
    rate = step.run.config.batch_size / least
    return (
        f"Estimate: at least {least * 1e3:.2f} ms a step ({binding}), so at most {rate:,.0f} "
        f"examples a second and at least {step.run.num_steps * least / 3600:.2f} hours for the "
        "run. It is a bound by peak rates that assumes perfect overlap; nothing was run."
    )


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
