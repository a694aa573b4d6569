"""What a user's module must be before it is captured, and the copy that is traced in its place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from podlt.errors import UnsupportedError
from podlt.program.layout import TORCH_DTYPES


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's own module inside of `torch.compile`, `DataParallel` and `DistributedDataParallel`.

    They change how a module is run, and what its parameters are called, but not what it computes.
    """
    while True:
        name = "module" if isinstance(model, (nn.DataParallel, DistributedDataParallel)) else "_orig_mod"
        inner = getattr(model, name, None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


TensorOf = Callable[[torch.Tensor], torch.Tensor]


def copied(module: Any, tensor_of: TensorOf, buffer_of: TensorOf | None = None) -> Any:
    """A deep copy of a module in which parameters and buffers are what a function makes of their values.

    So a copy that is only looked at shares its tensors with the module, and one in float64 is made without another in
    float32: parameters are most of what a capture's memory is.

    Args:
        module: stays as it is.
        tensor_of: of a detached tensor.
        buffer_of: of a buffer, if it is another.
    """
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        if type(parameter) is nn.Parameter:  # others bring their own way of being copied
            made = nn.Parameter(tensor_of(parameter.detach()), parameter.requires_grad)
            made.__dict__.update(copy.deepcopy(parameter.__dict__, memo))
            memo[id(parameter)] = made
    for buffer in module.buffers():
        if type(buffer) is torch.Tensor and not buffer.requires_grad:
            memo[id(buffer)] = (buffer_of or tensor_of)(buffer.detach())
    return copy.deepcopy(module, memo)


def own_copy(model: nn.Module) -> nn.Module:
    """A copy to be traced, in the modes that it is trained in; the user's own module stays as it was.

    Its parameters and buffers lie in the module's own memory: nothing may write to them.

    The rule is PyTorch's own habit: a model in eval mode as a whole (as `from_pretrained` gives it) is put into train
    mode as `model.train()` does it. A model in train mode is taken as it is: a part that its user has put into eval
    mode (frozen BatchNorm, dropout switched off) stays in it.

    Raises:
        UnsupportedError: it cannot be copied.
    """
    try:
        found: nn.Module = copied(model, lambda tensor: tensor)
    except Exception as error:
        raise UnsupportedError(f"{type(model).__name__} cannot be copied: {error}") from error
    return found if model.training else found.train()


def state_of(model: nn.Module, names: Iterable[str] = (), *, shared: bool = False) -> dict[str, torch.Tensor]:
    """Copies of a model's parameters and buffers, as a program names them: "param:", "frozen:", "buffer:" and name.

    Args:
        model: the module.
        names: how a program names them: a parameter that its loss does not use is a frozen one there. Without, those
            with `requires_grad` are trained.
        shared: whether they are to be the module's own memory, and no copies.
    """
    frozen = {name.partition(":")[2] for name in names if name.startswith("frozen:")}

    def taken(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach() if shared else tensor.detach().clone()

    state = {
        ("param:" if p.requires_grad and name not in frozen else "frozen:") + name: taken(p)
        for name, p in model.named_parameters()
    }
    return state | {"buffer:" + name: taken(b) for name, b in model.named_buffers()}


def saved_names(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """The names by which a module's `state_dict()` has its parameters and buffers, where these are not their own.

    A tied weight has several, of which `named_parameters()` gives the first; a buffer that is not persistent has none.

    Returns:
        The first name of such a tensor to those that it is saved by.
    """
    own = {id(tensor): name for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    saved: dict[str, list[str]] = {name: [] for name in own.values()}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in own:
            saved[own[id(tensor)]].append(name)
    return {name: tuple(found) for name, found in saved.items() if found != [name]}


def check_module(model: nn.Module) -> None:
    """Refuses parameters and buffers that no program holds, and hooks that a program would lose.

    Raises:
        UnsupportedError: names the parameter, buffer or module, and says what to do.
    """
    named = dict(model.named_parameters())
    uninitialised = [n for n, p in named.items() if isinstance(p, nn.parameter.UninitializedParameter)]
    if uninitialised:
        raise UnsupportedError(f"parameter {uninitialised[0]} has no shape yet: call the model once before")
    if not any(p.requires_grad for p in named.values()):
        raise UnsupportedError(f"{type(model).__name__} has no parameter to train")
    wrong = [n for n, p in named.items() if p.dtype != torch.float32]
    if wrong:
        raise UnsupportedError(
            f"parameter {wrong[0]} is {named[wrong[0]].dtype}: parameters must be float32 (model.float())"
        )
    for n, b in model.named_buffers():
        if b.dtype not in TORCH_DTYPES.values():
            raise UnsupportedError(f"buffer {n} is {b.dtype}: expected one of {', '.join(TORCH_DTYPES)}")
    _refuse_hooks(model)


_PARAMETER_HOOKS = {
    "_backward_hooks": "register_hook",
    "_post_accumulate_grad_hooks": "register_post_accumulate_grad_hook",
}
_MODULE_HOOKS = {
    "_backward_hooks": "register_full_backward_hook",
    "_backward_pre_hooks": "register_full_backward_pre_hook",
}


def _refuse_hooks(model: nn.Module) -> None:
    """Hooks run in Python while PyTorch works out gradients: a worker has none, and a copy of a parameter neither."""
    for name, parameter in model.named_parameters():
        for attribute, registered in _PARAMETER_HOOKS.items():
            if hooks := getattr(parameter, attribute, None):
                raise UnsupportedError(
                    f"parameter {name} has a hook ({_name_of(hooks)}, by {registered}), which workers would not run: "
                    "remove it (handle.remove()), and say in the loss or in forward what it does to gradients"
                )
    for name, module in model.named_modules():
        for attribute, registered in _MODULE_HOOKS.items():
            if hooks := getattr(module, attribute, None):
                raise UnsupportedError(
                    f"module {name or type(module).__name__} has a backward hook ({_name_of(hooks)}, by {registered}), "
                    "which workers would not run: remove it (handle.remove()), and say in forward what it does to "
                    "gradients"
                )


def _name_of(hooks: dict[int, Callable[..., object]]) -> str:
    first = next(iter(hooks.values()))
    return getattr(first, "__qualname__", type(first).__name__)
