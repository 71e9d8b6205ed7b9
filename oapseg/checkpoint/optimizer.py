"""An AdamW optimizer as named tensors, so that its state fits in safetensors."""

import torch
from torch import Tensor, nn

SLOTS = ("exp_avg", "exp_avg_sq", "step")


def optimizer_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """`NAME.SLOT` for every parameter of `module` that the optimizer has stepped."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    return {f"{names[parameter]}.{slot}": state[slot] for parameter, state in optimizer.state.items() for slot in SLOTS}


def restore_optimizer(optimizer: torch.optim.Optimizer, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Undo `optimizer_tensors`; parameters without saved state start afresh, as they would have."""
    for name, parameter in module.named_parameters():
        if f"{name}.step" in tensors:
            optimizer.state[parameter] = {
                slot: tensors[f"{name}.{slot}"].to("cpu" if slot == "step" else parameter.device).clone()
                for slot in SLOTS
            }


def with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors below a prefix, under the names they had before `with_prefix`."""
    return {
        name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")
    }
