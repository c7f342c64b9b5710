"""What a class takes: `args` where every instance is alike, else named parameters, and each number in terms of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from porter.emit.expressions import Expression, find, find_far
from porter.emit.layers import SYNONYMS
from porter.emit.literals import Vector, is_constant, literal
from porter.emit.names import argument_name, identifier, unique
from porter.emit.variants import Variants
from porter.passes.factor.classes import BlockClass

#: Numbers of layers that are sizes, and what a parameter for one is called.
SIZES = {
    "input_dims": "in_features", "output_dims": "out_features", "in_channels": "in_channels", "out_channels": "out_channels",
    "num_features": "num_features", "dims": "dim", "num_embeddings": "num_embeddings", "input_size": "input_size",
    "hidden_size": "hidden_size", "num_groups": "num_groups", "groups": "groups", "dim": "dim",
    "hidden_dims": "hidden_dims", "num_experts": "num_experts",
}  # fmt: skip
_SMALL = 3
#: Values that a parameter of the name has where nothing is said.
USUAL: dict[str, Any] = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}


@dataclass(slots=True)
class Config:
    """The fields of ModelArgs: what the source calls its sizes, and which of them the emitted file uses."""

    known: dict[str, Any]
    #: those of them that the file can't follow: they are written as the numbers that they are
    fixed: frozenset[str] = frozenset()
    used: dict[str, Any] = field(default_factory=dict)
    #: the same in the model's other sizes
    others: list[dict[str, Any]] = field(default_factory=list)
    #: whether the graph of another size is known too
    traced: bool = False
    #: numbers that change with the size, and that no field gives
    unexplained: int = 0

    def use(self, name: str) -> str:
        self.used[name] = self.known[name]
        return f"args.{name}"

    def is_fixed(self, symbol: str) -> bool:
        return symbol.partition("[")[0] in self.fixed


@dataclass(slots=True)
class Arguments:
    """The constructor's parameters of one class, and the attributes that its forward needs."""

    cls: BlockClass
    config: Config
    takes_args: bool
    symbols: dict[str, Vector] = field(default_factory=dict)
    parameters: dict[str, Vector] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    derived: set[str] = field(default_factory=set)  # attributes that were no argument
    uses_args: bool = False
    made: set[str] = field(default_factory=set)  # parameters that the source has no name for
    #: what the source has under each name, arguments and attributes
    told: dict[str, Vector] = field(default_factory=dict)
    #: of a class that takes `args`: what its own constructor was given, for sizes that no field of ModelArgs gives
    own: dict[str, Vector] = field(default_factory=dict)
    sizes: set[str] = field(default_factory=set)  # parameters that are sizes of layers
    is_root: bool = False
    reserved: set[str] = field(default_factory=set)

    @classmethod
    def of(
        cls,
        block_class: BlockClass,
        config: Config,
        takes_args: bool,
        variants: Variants,
        is_root: bool = False,
    ) -> Arguments:
        arguments = cls(block_class, config, takes_args, is_root=is_root)
        count = len(block_class.instances)
        known, derived = variants.told(block_class)
        arguments.told = known
        if takes_args:
            arguments.own = {
                argument_name(name): vector
                for name, vector in known.items()
                if name not in config.known and name not in derived
            }
            for k, known in enumerate((config.known, *config.others)):
                for name, value in known.items():
                    value = tuple(value) if isinstance(value, list) else value
                    if name in config.known:
                        column = dict.fromkeys(range(k * count, (k + 1) * count), value)
                        arguments.symbols.setdefault(name, {}).update(column)
            return arguments
        known = {argument_name(name): vector for name, vector in known.items()}
        arguments.symbols = arguments.told = known
        arguments.derived = {*map(argument_name, derived)}
        return arguments

    def resolve(
        self,
        vector: Vector,
        *hints: str,
        in_call: bool = False,
        use_hint: bool = True,
        fallback: str = "",
        is_size: bool = False,
        called: bool = False,
    ) -> str:
        """Source text for a value that may differ among the instances; `called` as `_find` has it.

        A new parameter is called by the first hint, or `fallback` where that name is taken. With `is_size`, or a hint that
        says so, it is not written as a number but in the root.
        """
        names = tuple(
            dict.fromkeys(name for hint in hints for name in (hint, *SYNONYMS.get(hint, ())))
        )
        expression = self._find(vector, names if use_hint else (), called=called)
        number = self._must_be_named(vector, is_size or bool(set(hints) & set(SIZES)))
        if expression is not None and (
            self._is_number(expression) or (number and self._is_own(expression))
        ):
            expression = None  # of all that its constructor was given another may say more
        if expression is None and number:
            expression = self._own_size(vector, names) or self._new_parameter(
                SIZES.get(hints[0], hints[0]), vector, fallback
            )
        if number and expression is not None:
            self.sizes |= set(expression.symbols)
        if expression is None and in_call and is_size and self.is_root and is_constant(vector):
            return self._attribute(Expression((), literal(next(iter(vector.values())))), hints)
        if expression is None and self.takes_args:  # nothing names what the other sizes have here
            here = {i: v for i, v in vector.items() if i < len(self.cls.instances)}
            self.config.unexplained += is_constant(here) and not is_constant(vector)
            vector = here
        if expression is None or (is_constant(vector) and self._is_plain(vector, expression)):
            if is_constant(vector) and not (number and expression is not None):
                return literal(next(iter(vector.values())))
            if expression is None:
                expression = self._new_parameter(hints[0] if hints else "value", vector, fallback)
        return self._attribute(expression, hints) if in_call else self._text(expression)

    def _is_number(self, expression: Expression) -> bool:
        """Whether an expression is made of fixed settings alone, or is a quotient of one, which says nothing."""
        fixed = [self.config.is_fixed(symbol) for symbol in expression.symbols]
        return self.takes_args and bool(fixed) and (all(fixed) or _is_part(expression, fixed))

    def _must_be_named(self, vector: Vector, is_size: bool) -> bool:
        """Whether a number is a size of a class below the root."""
        values = list(vector.values())
        ints = all(type(value) is int for value in values)
        return is_size and ints and max(map(abs, values)) > _SMALL and not self.is_root

    def _is_own(self, found: Expression) -> bool:
        """Whether an expression is made of what the class's own constructor was given alone."""
        names = [symbol.partition("[")[0] for symbol in found.symbols]
        return bool(names) and all(name in self.own for name in names)

    def _own_size(self, vector: Vector, hints: tuple[str, ...]) -> Expression | None:
        """The size by what the class's own constructor was given."""
        found = find(vector, self.own, hints, frozenset(self.made)) if self.own else None
        if found is not None:
            names = (symbol.partition("[")[0] for symbol in found.symbols)
            self.symbols.update({name: self.own[name] for name in names})
        return found

    def look_up(
        self,
        vector: Vector,
        *hints: str,
        in_call: bool = False,
        exact: bool = False,
        called: bool = False,
    ) -> str | None:
        """Like resolve, but None where there is no name for the value already."""
        expression = self._find(vector, hints, exact, called)
        if expression is not None and self._is_own(expression):
            expression = self._own_size(vector, hints)
        if expression is None and in_call and self._must_be_named(vector, True):
            expression = self._own_size(vector, hints)
        if expression is None or (exact and expression.template != "{}"):
            return None
        if self._is_number(expression):
            return None
        return self._attribute(expression, hints) if in_call else self._text(expression)

    def is_other(self, name: str, vector: Vector) -> bool:
        """Whether the source has another value under a name somewhere: then it is not the name of this number."""
        symbol = self.told.get(name, {})
        return any(i in symbol and symbol[i] != value for i, value in vector.items())

    def known(self, vector: Vector) -> bool:
        """Whether a number has an attribute already, or one name that gives it."""
        expression = self._find(vector, ())
        if expression is None or self._is_number(expression):
            return False
        text = expression.text(self._peeked)
        return expression.template == "{}" or text in self.attributes.values()

    def _peeked(self, symbol: str) -> str:
        """A symbol's text, without making it an argument."""
        return f"args.{symbol}" if self.takes_args and symbol in self.config.known else symbol

    def _find(
        self,
        vector: Vector,
        hints: tuple[str, ...],
        strict: bool = False,
        called: bool = False,
    ) -> Expression | None:
        """An expression over the constructor's own arguments, else over what the source derives from them too.

        With `strict` only a name that shares words with the hints will do. So it is where the hint is what the author `called`
        the number and no other size tells more: a field has its value by chance.
        """
        made = frozenset(self.made)
        own = {name: symbol for name, symbol in self.symbols.items() if name not in self.derived}
        count = len(self.cls.instances)
        partial = frozenset(
            name for name, s in self.symbols.items() if any(s.get(i) is None for i in range(count))
        )
        elsewhere = any(i >= count for i in vector)
        unproven = frozenset(
            name
            for name, symbol in self.symbols.items()
            if self.takes_args and elsewhere and len({repr(symbol.get(i)) for i in vector}) == 1
        )
        by_chance = (self.takes_args and self.config.traced) or (called and is_constant(vector))
        if by_chance and not elsewhere:
            strict = True  # of a number that no other size tells, only a name can say what it is
        found = find(vector, own, hints, made, strict, partial, unproven)
        if found is None and self.derived:
            found = find(vector, self.symbols, hints, made, strict, partial, unproven)
        source = {name: symbol for name, symbol in self.symbols.items() if name not in made}
        return found or find_far(vector, source)

    def _is_plain(self, vector: Vector, expression: Expression) -> bool:
        """A constant that a parameter would only obscure: one that every instance shares, found by a longer sum."""
        number = isinstance(next(iter(vector.values())), int)
        return (
            number
            and not self.takes_args
            and len(expression.symbols) > 1
            and len(self.cls.instances) > 1
        )

    def tables(self) -> list[str]:
        """The names of tuples of numbers."""
        return [
            name
            for name, symbol in self.symbols.items()
            if symbol and all(isinstance(value, tuple) for value in symbol.values())
            if not (self.takes_args and name in self.config.fixed)
        ]

    def name(self, symbol: str) -> str:
        """Source text for a symbol, which is an argument from now on."""
        return self._symbol(symbol)

    def description(self, name: str, table: dict[str, Any]) -> str:
        """Source text for a table of the source's configuration: a field of ModelArgs, or spelled out."""
        if self.takes_args:
            self.uses_args = True
            self.config.known[name] = table
            return self.config.use(name)
        return repr(table)

    def flag(self, vector: Vector, *hints: str, in_call: bool = False) -> str:
        """Source text for a yes or no."""
        return self.resolve(vector, *hints, in_call=in_call)

    def _new_parameter(self, hint: str, vector: Vector, fallback: str = "") -> Expression:
        for name, known in self.parameters.items():
            if name not in self.reserved and all(
                repr(known.get(i)) == repr(value) for i, value in vector.items()
            ):  # by repr: 2.0 is no 2
                return Expression((name,), "{}")
        name = argument_name(hint)
        if self._is_taken(name, vector) and fallback:
            name = argument_name(fallback)
        if self._is_taken(name, vector):
            name = unique(name, {*self.symbols, *self.parameters, *self.own})
        self.symbols[name] = vector
        self.made.add(name)
        self.parameters[name] = vector
        return Expression((name,), "{}")

    def _is_taken(self, name: str, vector: Vector) -> bool:
        """Whether the name stands for something else."""
        partial = self.symbols.get(name) or self.own.get(name)
        other = partial and any(partial.get(i, value) != value for i, value in vector.items())
        return (
            name in self.parameters
            or bool(other)
            or (self.takes_args and name in self.config.known)
        )

    def _text(self, expression: Expression) -> str:
        return expression.text(self._symbol)

    def _symbol(self, name: str) -> str:
        if self.takes_args and self.config.is_fixed(name):
            place, _, index = name.partition("[")
            value = self.config.known[place]
            return literal(value[int(index[:-1])] if index else value)
        name, bracket, index = name.partition("[")
        return f"{self._name(name)}{bracket}{index}"

    def _name(self, name: str) -> str:
        if self.takes_args and name in self.config.known:
            self.uses_args = True
            return self.config.use(name)
        for known, vector in self.parameters.items():
            same = repr(vector) == repr(self.symbols[name])  # 2.0 is no 2
            if known != name and same and not is_constant(vector):
                return known
        self.parameters.setdefault(name, self.symbols[name])
        return name

    def _attribute(self, expression: Expression, hints: tuple[str, ...]) -> str:
        """`self.NAME`, set in the constructor to the expression."""
        text = self._text(expression)
        for name, known in self.attributes.items():
            if known == text:
                return f"self.{name}"
        single = len(expression.symbols) == 1 and expression.template == "{}"
        name = identifier(hints[0] if hints else "size")
        if single:  # an element of a tuple is called as one of them
            name, bracket, _ = expression.symbols[0].partition("[")
            name = name[:-1] if bracket and name.endswith("s") else name
        name = unique(name, set(self.attributes) | self.reserved)
        self.attributes[name] = text
        return f"self.{name}"

    def signature(self) -> list[str]:
        """The constructor's parameters, those with a default last."""
        required, optional = [], []
        many = len(self.cls.instances) > 1
        for name in self.ordered():
            vector = self.parameters[name]
            if self.default(name) is not None and many:
                kind = _annotation(vector) + " | None" * self._is_partial(name)
                optional.append(f"{name}: {kind} = {self.default(name)}")
            else:
                required.append(f"{name}: {_annotation(vector)}")
        return (["args: ModelArgs"] if self.uses_args else []) + required + optional

    def ordered(self) -> list[str]:
        """The parameters in the source's order, those that it has no name for after them, flags last."""
        place = {name: position for position, name in enumerate(self.symbols)}
        flags = {n: isinstance(next(iter(v.values()), 0), bool) for n, v in self.parameters.items()}
        return sorted(self.parameters, key=lambda n: (flags[n], n in self.made, place.get(n, 0)))

    def _is_partial(self, name: str) -> bool:
        """Whether some instance has no use for a parameter."""
        vector = self.parameters[name]
        return any(vector.get(i) is None for i in range(len(self.cls.instances)))

    def default(self, name: str) -> str | None:
        """The default of a parameter: what it is in every instance, or what it usually is."""
        vector = self.parameters[name]
        if len(self.cls.instances) < 2 or self.takes_args:
            return None
        if self._is_partial(name):
            return "None"
        if is_constant(vector):
            return literal(next(iter(vector.values())))
        if name in self.made or name in USUAL:
            usual = USUAL.get(name, False)
            return (
                literal(usual)
                if any(type(v) is type(usual) and v == usual for v in vector.values())
                else None
            )
        return None


def _is_part(expression: Expression, fixed: list[bool]) -> bool:
    return any(fixed) and expression.template == "{} // {}"


def _annotation(vector: Vector) -> str:
    value = next((v for v in vector.values() if v is not None), 0)
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float, str)):
        return type(value).__name__
    if isinstance(value, (tuple, list)):
        inner = {type(item).__name__ for item in value} or {"int"}
        return f"tuple[{inner.pop() if len(inner) == 1 else 'float'}, ...]"
    return "Callable"
