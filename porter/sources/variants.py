"""The source's model in other sizes: what tells which of its numbers follow from which setting."""

from __future__ import annotations

import copy
import random
import re
import time
from collections.abc import Collection, Container, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch

from porter.sources.constructors import config_objects, record_constructors
from porter.sources.meta_parameters import meta_parameters
from porter.sources.running import deterministic
from porter.sources.shapes_only import ShapesOnly
from porter.sources.source import Source
from porter.time_limit import time_limit

#: How many other sizes are wanted, from how many draws, and how many models may be built for all of it.
WANTED, DRAWS, BUILDS = 4, 16, 96

#: CPU seconds in constructors after which no more are built, whatever is found by then.
SECONDS = 20.0

#: What a size is multiplied by; the small ones divide the large ones, so that heads still divide widths.
_LARGE, _SMALL = (2, 3, 4, 6, 10), (1, 2, 3, 4)
_HEADS = re.compile(r"heads?$")
_KEYS = re.compile(
    r"kv|key"
)  # their heads divide those of the queries, though there may be as many
_WIDTH = re.compile(r"dim|hidden|width|embd|d_model")
#: How often numbers are drawn until they go together.
_TRIES = 20
_DEPTH = re.compile(
    r"^(?!.*(channel|dim|hidden(?!_layers)|width|size|scale|head)).*(layer|depth|level|block|stage|repeat)"
)
#: What tables of positions are made for: their size grows with the square of it.
_EXTENT = re.compile(r"im(a)?g|resolution|input_size|length|position|context|seq")
#: Kernels stay odd or even: authors pad by half of one.
_KERNEL = re.compile(r"kernel")
_NOT_SIZES = re.compile(r"_ids?$|_token|seed|version|eps|theta|stride|dilation|chunk|drop")
_RATIO = re.compile(r"ratio|mult|expan|factor")


#: What inputs have to agree with, and what they never do.
_INPUTS = re.compile(r"in_ch|num_ch|chans|^in_|input|mel|vocab|classes|joint|text|caption|pooled")
_WIDTHS = re.compile(r"dim|hidden|width|embed|model|heads")


class OtherSizes:
    """Models of the source's class in other sizes, parameters on meta; none where the class can't be built anew.

    The whole numbers among the settings are changed at random, and what the author's own checks refuse is drawn again. With
    nothing changed the class must give the source's own model.
    """

    def __init__(self, source: Source):
        self._source = source
        self._spent = 0.0  # CPU seconds in constructors
        self._built = 0
        self._settings = _Settings(source.called_with)
        #: settings that have other values in some model that was built
        self._changed: set[str] = set()
        same = source.module is not None and bool(self._settings.names)
        built = self._build(source.called_with) if same else None
        self._same = built is not None and _shapes(built) == _shapes(source)

    def together(
        self,
        only: Container[str] | None = None,
        wanted: int = WANTED,
        truly: Container[str] = (),
    ) -> list[Source]:
        """Models with every setting changed (or only those named), up to `wanted` or as many as their class allows.

        A setting may get its own value again, but for those that are to be changed `truly`.
        """
        draw = random.Random(0)
        found: list[Source] = []
        names = [place for place in self._settings.names if only is None or place[1] in only]
        for count in range(DRAWS if self._same else 0):
            if len(found) == wanted or self._late():
                break
            # A number that must not change makes every draw fail: later draws change fewer.
            part = max(0.25, 1 - count / DRAWS)
            chosen = [place for place in names if draw.random() < part or place[1] in truly]
            other = self._drawn(chosen, draw, count % 2 > 0, truly)
            found += [other] if other is not None else []
        return found

    @property
    def names(self) -> list[str]:
        """The settings that may be changed."""
        return [name for _, name in self._settings.names] if self._same else []

    def same_graph(self, only: Collection[str]) -> Iterator[list[Source]]:
        """Pairs of models that may take the same inputs in the same steps: with most settings changed, then with fewer."""
        names = [n for n in only if not _DEPTH.search(n.lower()) and not _EXTENT.search(n.lower())]
        names = [name for name in names if name in self._changed]
        pair = self.together(names, wanted=2, truly=names)
        if deep := self._deep(pair):
            names = [name for name in names if name not in deep]
            pair = self.together(names, wanted=2, truly=names)
        inner = [n for n in names if not _INPUTS.search(n.lower())]
        plain = [n for n in inner if "size" not in n.lower()]
        given = _given_sizes(self._source)
        other = [n for n in inner if self._settings.numbers(n).isdisjoint(given)]
        widths = [n for n in inner if _WIDTHS.search(n.lower())]
        if names:
            yield pair
        tried = [names]
        for chosen in (inner, plain, other, widths):
            if chosen and chosen not in tried:
                tried.append(chosen)
                yield self.together(chosen, wanted=2, truly=chosen)

    def _deep(self, others: list[Source]) -> set[str]:
        """The settings by which modules come and go, where they do in these models: a depth may be called `n`."""
        here = _modules(self._source)
        if all(_modules(other) == here for other in others):
            return set()
        return {name for name, other in self.alone.items() if _modules(other) != here}

    @cached_property
    def alone(self) -> dict[str, Source]:
        """A model for each setting that can be changed alone.

        First those that change no shape, then tuples, then by how many shapes they change.
        """
        draw = random.Random(0)
        here = _shapes(self._source)
        found: dict[str, tuple[tuple[bool, bool, int], Source]] = {}
        for place in self._settings.names if self._same else ():
            for attempt in range(3):
                if self._late():
                    break
                other = self._drawn([place], draw, attempt > 1, truly=[place[1]])
                if other is not None:
                    changed = sum(here.get(key) != s for key, s in _shapes(other).items())
                    row = isinstance(self._settings.value(place), tuple)
                    found[place[1]] = ((changed == 0, row, changed), other)
                    break
        order = sorted(found, key=lambda name: found[name][0], reverse=True)
        return {name: found[name][1] for name in order}

    def _late(self) -> bool:
        return self._built >= BUILDS or self._spent > SECONDS

    def _drawn(
        self,
        chosen: list[tuple[str | None, str]],
        draw: random.Random,
        alike: bool,
        truly: Container[str],
    ) -> Source | None:
        """A model with the chosen settings changed, or None where its constructor refuses them."""
        arguments, changed = self._settings.drawn(chosen, draw, alike, truly)
        other = self._build(arguments)
        self._changed |= changed if other is not None else set()
        return other

    def _build(self, arguments: dict[str, Any]) -> Source | None:
        """The source with its module built with these arguments, or None where its constructor refuses them."""
        source = self._source
        assert source.module is not None
        self._built += 1
        started = time.process_time()
        try:
            with (
                time_limit(max(0.1, SECONDS - self._spent)),
                deterministic(source.options.seed),
                record_constructors() as log,
                meta_parameters(),
                ShapesOnly(),
                torch.no_grad(),
            ):
                module = type(source.module)(**arguments)
        except Exception:  # noqa: BLE001 -- the author's own checks raise anything
            return None
        finally:
            self._spent += time.process_time() - started
        return replace(
            source,
            module=module.eval(),
            constructors=log.by_path(module),
            config=_config_of(module) if source.config else None,
        )


def _modules(source: Source) -> set[str]:
    assert source.module is not None
    return {name for name, _ in source.module.named_modules()}


def _given_sizes(source: Source) -> set[int]:
    """The sizes of the example inputs, but for the samples: a setting with one of these may be an input's."""
    leaves = torch.utils._pytree.tree_leaves((source.args, source.kwargs))
    return {n for leaf in leaves if isinstance(leaf, torch.Tensor) for n in leaf.shape[1:]}


class _Settings:
    """The whole numbers, and tuples of them, among a constructor's arguments and the fields of its configuration."""

    def __init__(self, arguments: dict[str, Any]):
        self.arguments = arguments
        places: dict[tuple[str | None, str], Any] = {(None, k): v for k, v in arguments.items()}
        for holder, config in config_objects(arguments).items():
            places |= {(holder, name): value for name, value in vars(config).items()}
        self.names = [place for place, value in places.items() if _is_size(place[1], value)]
        self._values = places

    def value(self, place: tuple[str | None, str]) -> Any:
        """What the source has there; a list as a tuple."""
        value = self._values[place]
        return tuple(value) if isinstance(value, list) else value

    def numbers(self, name: str) -> set[Any]:
        """The numbers under a setting's name."""
        values = [self.value(place) for place in self.names if place[1] == name]
        return {n for value in values for n in (value if isinstance(value, tuple) else (value,))}

    def drawn(
        self,
        chosen: list[tuple[str | None, str]],
        draw: random.Random,
        alike: bool,
        truly: Container[str] = (),
    ) -> tuple[dict[str, Any], set[str]]:
        """The arguments with the chosen numbers changed, and the names of those that have become others.

        The source's own arguments stay as they are.
        Heads still divide the widths that they divide in the source, as far as a few draws find such numbers.
        """
        values = {place: self._values[place] for place in self.names}
        for turn in range(_TRIES):
            even = alike or turn >= _TRIES // 2
            changed = {place: self._other(place, draw, even, truly) for place in chosen}
            if self._heads_divide(values | changed):
                break
        arguments = {
            name: copy.deepcopy(value) if name in config_objects(self.arguments) else value
            for name, value in self.arguments.items()
        }
        for (holder, name), value in changed.items():
            if holder is None:
                arguments[name] = value
            else:
                vars(arguments[holder])[name] = value
        others = {place[1] for place, value in changed.items() if value != self._values[place]}
        return arguments, others

    def _other(
        self,
        place: tuple[str | None, str],
        draw: random.Random,
        alike: bool,
        truly: Container[str],
    ) -> Any:
        """Another value of a setting; never its own where it is to be changed `truly`, but by rare chance."""
        own = self._values[place]
        draws = (_changed(place[1], own, draw, alike) for _ in range(8 if place[1] in truly else 1))
        value = own
        for value in draws:
            if value != own:
                break
        return value

    def _heads_divide(self, values: dict[tuple[str | None, str], Any]) -> bool:
        """Whether each width, and number of heads, is a multiple of each number of heads of which it is one in the source.

        Of two tuples of one length it is those at the same place.
        """
        return all(
            new % parts == 0
            for heads, width in self._divided
            for (own, part), (new, parts) in zip(
                _pairs(self._values[width], self._values[heads]),
                _pairs(values[width], values[heads]),
                strict=True,
            )
            if part > 1 and own % part == 0 and own >= part + (_KEYS.search(heads[1]) is None)
        )

    @cached_property
    def _divided(self) -> list[tuple[tuple[str | None, str], tuple[str | None, str]]]:
        """The numbers of heads, each with what may be divided among them."""
        return [
            (heads, width)
            for heads in self.names
            if _HEADS.search(heads[1])
            for width in self.names
            if width != heads
            and (_WIDTH.search(width[1]) or _HEADS.search(width[1]))
            and not _DEPTH.search(width[1])
        ]


def _pairs(width: Any, heads: Any) -> list[tuple[int, int]]:
    """Each width with the number of heads that it may be divided among; empty for what are no whole numbers."""
    rows = [n if isinstance(n, (list, tuple)) else (n,) for n in (width, heads)]
    count = max(map(len, rows))
    if any(len(row) not in (1, count) for row in rows):
        return []
    both = list(zip(*(tuple(row) * (count // len(row)) for row in rows), strict=True))
    return both if all(type(n) is int for pair in both for n in pair) else []


def _is_size(name: str, value: Any) -> bool:
    if name.startswith("_") or _NOT_SIZES.search(name):
        return False
    if isinstance(value, (list, tuple)):
        if _is_ratio(name, value):
            return True
        return 0 < len(value) <= 16 and all(type(item) is int and item > 0 for item in value)
    least = 1 if _DEPTH.search(name.lower()) else 2
    return _is_ratio(name, value) or (type(value) is int and value >= least)


def _is_ratio(name: str, value: Any) -> bool:
    """Whether a setting is what a width is multiplied by, or a tuple of such."""
    items = value if isinstance(value, (list, tuple)) else (value,)
    floats = 0 < len(items) <= 16 and all(type(item) is float and item > 0 for item in items)
    return floats and _RATIO.search(name.lower()) is not None


def _changed(name: str, value: Any, draw: random.Random, alike: bool) -> Any:
    """Another number or tuple of numbers; `alike` keeps the proportions within a tuple."""
    if _is_ratio(name, value):
        if isinstance(value, (list, tuple)):
            more = draw.choice((1, 2))
            return type(value)(item + more if item >= 1 else item / 2 for item in value)
        return value + draw.choice((1, 2)) if value >= 1 else value / draw.choice((2, 4))
    if _KERNEL.search(name.lower()):
        more = draw.choice((2, 4))
        rows = isinstance(value, (list, tuple))
        return type(value)(item + more for item in value) if rows else value + more
    if _DEPTH.search(name.lower()):
        more = draw.choice((1, 2))
        if isinstance(value, (list, tuple)):
            return type(value)(item + more + k for k, item in enumerate(value))
        return value + more
    if _EXTENT.search(name.lower()):
        factor = draw.choice((2, 3))
        return (
            type(value)(i * factor for i in value)
            if isinstance(value, (list, tuple))
            else value * factor
        )
    if isinstance(value, (list, tuple)):
        factors = list(_LARGE if min(value) > 7 else _SMALL)
        draw.shuffle(factors)
        several = 1 if alike or len(set(value)) == 1 else len(factors)
        return type(value)(  # one head stays one, as where it is a setting of its own
            item * factors[k % several] if item > 1 else item for k, item in enumerate(value)
        )
    return value * draw.choice(_LARGE if value > 31 else _SMALL)


def _config_of(module: torch.nn.Module) -> dict[str, Any]:
    config: Any = getattr(module, "config", None)
    return dict(config.to_dict()) if hasattr(config, "to_dict") else {}


def tensors_of(module: torch.nn.Module | None) -> list[tuple[str, torch.Tensor]]:
    """Every parameter and buffer under every name that it has."""
    if module is None:
        return []
    parameters = module.named_parameters(remove_duplicate=False)
    return [*parameters, *module.named_buffers(remove_duplicate=False)]


def _shapes(source: Source) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors_of(source.module)}
