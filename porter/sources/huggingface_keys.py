"""The names that transformers gives to a checkpoint's keys: its own table of renamings, read and not applied."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def renamed_keys(
    module: Any, available: Iterable[str]
) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """(name in the module's state dict -> checkpoint key, name -> the keys that transformers would make it of).

    Follows `convert_and_load_state_dict_in_model` of transformers 5; an older transformers renames nothing.
    Keys whose values transformers changes (experts that it merges) are in the second only.
    """
    try:
        from transformers import conversion_mapping, core_model_loading
    except ImportError:
        return {}, {}
    changes = conversion_mapping.get_model_conversion_mapping(module)
    renamings = [
        change for change in changes if isinstance(change, core_model_loading.WeightRenaming)
    ]
    converters = [
        change for change in changes if isinstance(change, core_model_loading.WeightConverter)
    ]
    state = module.state_dict(keep_vars=True)
    prefix = module.base_model_prefix
    found: dict[str, str] = {}
    parts: dict[str, list[str]] = {}
    # Some renamings wait for a key that comes first in this order.
    for key in sorted(available, key=core_model_loading.dot_natural_key):
        rename = core_model_loading.rename_source_key
        name, converted = rename(key, renamings, converters, prefix, state)
        if name not in state and key in state:
            name, converted = rename(key, [], [], base_model_prefix=prefix, meta_state_dict=state)
        if converted is not None:
            parts.setdefault(name, []).append(key)
        elif name in state:
            found.setdefault(name, key)
    return found, {name: tuple(keys) for name, keys in parts.items()}
