"""find(): whatever expression it returns gives the vector's value in every instance."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from porter.emit.expressions import Expression, find
from porter.emit.literals import Code, is_constant

HINTS = (
    "dim", "hidden_size", "num_heads", "padding", "scale", "stride", "out_channels", "use_bias", "mlp_ratio", "layers", "eps"
)  # fmt: skip
SYMBOLS = (
    "dim", "hidden_size", "in_channels", "out_channels", "num_heads", "kernel_size", "stride", "mlp_ratio", "patch_size",
    "image_size", "expand_ratio", "use_bias", "depths", "eps", "depth",
)  # fmt: skip

integers = st.integers(0, 64)
numbers = st.one_of(integers, st.sampled_from([0.5, 0.25, 4.0, 2.0, 1e-6, 0.125, 64**-0.5]))
scalars = st.one_of(numbers, st.booleans())
anything = st.one_of(
    scalars, st.text(max_size=3), st.none(), st.lists(integers, max_size=3).map(tuple)
)


def vectors(values: st.SearchStrategy, count: int, partial: bool) -> st.SearchStrategy:
    full = st.lists(values, min_size=count, max_size=count).map(lambda v: dict(enumerate(v)))
    alike = values.map(lambda v: dict.fromkeys(range(count), v))
    some = st.dictionaries(st.integers(0, count - 1), values, min_size=1)
    return st.one_of(full, alike, *([some] if partial else []))


@st.composite
def cases(draw):
    count = draw(st.integers(1, 3))
    symbols = draw(
        st.dictionaries(
            st.sampled_from(SYMBOLS), vectors(anything, count, partial=True), max_size=6
        )
    )
    kind = draw(st.sampled_from(["made", "free"]))
    made = {
        n: v
        for n, v in symbols.items()
        if len(v) == count and all(type(i) is int for i in v.values())
    }
    if kind == "made" and len(made) >= 1:
        a, b = draw(st.sampled_from(sorted(made))), draw(st.sampled_from(sorted(made)))
        how = draw(
            st.sampled_from(
                [
                    "{a} * 4",
                    "{a} // 2",
                    "{a} ** 2",
                    "{a} + {b}",
                    "{a} - {b}",
                    "{a} * {b}",
                    "{a} != {b}",
                ]
            )
        )
        vector = {i: eval(how.format(a=made[a][i], b=made[b][i])) for i in range(count)}
    else:
        vector = draw(vectors(anything, count, partial=True))
    hints = tuple(draw(st.lists(st.sampled_from(HINTS), max_size=3)))
    strict = draw(st.booleans())
    return vector, symbols, hints, strict


def evaluated(expression: Expression, symbols: dict[str, dict[int, Any]], instance: int) -> Any:
    text = expression.text(lambda name: name)
    scope = {name: symbols[name][instance] for name in expression.symbols}
    return eval(text, {"__builtins__": {}, "int": int}, scope)


def test_a_setting_of_0_divides_nothing():
    assert find({0: 16}, {"image_size": {0: 4}, "patch_size": {0: 0}}, ()) is None


@settings(max_examples=600)
@given(cases())
def test_what_is_found_is_right_in_every_instance(case):
    vector, symbols, hints, strict = case
    expression = find(vector, symbols, hints, strict=strict)
    if expression is None:
        return
    for instance, value in vector.items():
        found = evaluated(expression, symbols, instance)
        if isinstance(value, float) and "**" in expression.template:
            assert abs(found - value) <= 1e-9 * abs(value)
        else:
            assert found == value
            assert type(found) is type(value)


@given(cases())
def test_strict_takes_names_alone(case):
    vector, symbols, hints, _ = case
    expression = find(vector, symbols, hints, strict=True)
    scalars = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in vector.values())
    if expression is not None and scalars and "scale" not in hints:
        assert expression.template == "{}"


def alike(**values: Any) -> dict[str, dict[int, Any]]:
    return {name: dict.fromkeys(range(2), value) for name, value in values.items()}


def text(vector: Any, symbols: dict[str, dict[int, Any]], *hints: str) -> str | None:
    vector = vector if isinstance(vector, dict) else dict.fromkeys(range(2), vector)
    found = find(vector, symbols, hints)
    return found and found.text(lambda name: f"args.{name}")


def test_simple_sizes():
    config = alike(hidden_size=48, num_heads=4, intermediate_size=96, image_size=32, patch_size=8)
    assert text(48, config, "dim") == "args.hidden_size"
    assert text(96, config, "intermediate_size") == "args.intermediate_size"
    assert text(12**-0.5, config, "scale") == "(args.hidden_size // args.num_heads) ** -0.5"
    assert text(17, config, "size") == "(args.image_size // args.patch_size) ** 2 + 1"
    assert text(3, config, "in_channels") is None


def test_patches_are_counted_by_image_and_patch():
    """Two sizes of a tower: widths have the same quotients, one of them rounded."""
    config = {
        "intermediate_size": {0: 192, 1: 768}, "hidden_size": {0: 48, 1: 288},
        "image_size": {0: 64, 1: 64}, "patch_size": {0: 16, 1: 32},
    }  # fmt: skip
    assert text({0: 16, 1: 4}, config, "length") == "(args.image_size // args.patch_size) ** 2"
    del config["image_size"]
    assert text({0: 16, 1: 4}, config, "length") is None
    config["map_size"] = {0: 64, 1: 64}
    assert text({0: 16, 1: 4}, config, "length") == "(args.map_size // args.patch_size) ** 2"


def test_a_number_of_heads_is_no_size_of_one():
    config = alike(hidden_size=64, num_attention_heads=8, num_key_value_heads=8)
    assert (
        text(8, config, "rotary_dim", "head_dim") == "args.hidden_size // args.num_attention_heads"
    )
    scale = text(8**-0.5, config, "scale")
    assert scale == "(args.hidden_size // args.num_attention_heads) ** -0.5"
    grouped = alike(hidden_size=96, num_attention_heads=8, num_key_value_heads=2)
    shared = text(24, grouped, "out_features")
    assert shared == "args.hidden_size // args.num_attention_heads * args.num_key_value_heads"


def test_elements_of_tuples_by_place():
    rows = {
        "dims": {0: (32, 64), 1: (64, 128), 2: (32, 64)},
        "num_heads": {0: (1, 4), 1: (1, 4), 2: (4, 8)},
        "mlp_ratios": {0: (8.0, 4.0), 1: (9.0, 4.5), 2: (8.0, 4.0)},
    }
    assert text({0: 8.0, 1: 9.0, 2: 8.0}, rows, "mlp_ratio") == "args.mlp_ratios[0]"
    assert text({0: 32, 1: 64, 2: 8}, rows, "head_dim") == "args.dims[0] // args.num_heads[0]"
    assert text({0: 1.0, 1: 1.0, 2: 1.0}, rows, "mlp_ratio") is None


def test_the_hinted_name_goes_first():
    symbols = alike(width=64, out_channels=64)
    assert text(64, symbols, "out_channels") == "args.out_channels"


def test_a_ratio():
    symbols = {"dim": {0: 48, 1: 96}, "mlp_ratio": {0: 4.0, 1: 4.0}}
    assert text({0: 192, 1: 384}, symbols, "hidden") == "int(args.dim * args.mlp_ratio)"


def test_flags():
    symbols = {
        "stride": {0: 1, 1: 2},
        "inp": {0: 8, 1: 16},
        "out": {0: 8, 1: 24},
        "bias": {0: True, 1: False},
    }
    assert text({0: True, 1: False}, symbols, "bias") == "args.bias"
    assert text({0: False, 1: True}, {"stride": symbols["stride"]}, "has_x") == "args.stride != 1"
    assert (
        text({0: False, 1: True}, {k: symbols[k] for k in ("inp", "out")}, "has_x")
        == "args.inp != args.out"
    )


def test_true_is_not_one():
    assert text(1, alike(flag=True), "flag") is None
    assert text(True, alike(flag=1), "flag") is None
    assert text(2.0, alike(stride=2), "stride") is None


def test_what_is_no_number_has_no_expression():
    assert text("gelu", alike(act="gelu"), "act") is None
    assert text(Code("nn.relu"), alike(act=1), "act") is None
    assert find({}, alike(dim=3)) is None


def test_an_instance_that_lacks_the_symbol_rules_it_out():
    assert text({0: 48, 1: 48}, {"dim": {0: 48}}, "dim") is None
    assert text({0: 48}, {"dim": {0: 48}}, "dim") == "args.dim"


@given(st.lists(scalars, min_size=1, max_size=4))
def test_constants_are_of_one_type_and_value(values):
    vector = dict(enumerate(values))
    assert is_constant(vector) == (len({(type(v), v) for v in values}) == 1)


def test_what_never_changes_stands_by_its_name():
    """A setting that has one value in every size fits a sum by chance."""
    symbols = {"classes": {0: 10, 1: 30}, "layers": {0: 5, 1: 5}, "depth": {0: 1, 1: 1}}
    assert text({0: 15, 1: 35}, symbols, "num_embeddings") is None
    assert text({0: 11, 1: 31}, symbols, "num_embeddings") == "args.classes + 1"
    unproven = frozenset({"output_stride"})
    assert find({0: 32, 1: 32}, alike(output_stride=32), ("dim",), unproven=unproven) is None


def test_multiples_of_what_changes():
    symbols = {"heads": {0: 2, 1: 6, 2: 4}, "head_size": {0: 8, 1: 24, 2: 8}}
    assert text({0: 96, 1: 864, 2: 192}, symbols, "dim") == "6 * args.heads * args.head_size"
    assert text({0: 128, 1: 384, 2: 128}, symbols, "dim") == "16 * args.head_size"


def test_a_size_is_no_multiple_of_a_width_that_is_not_the_model_s():
    others = {name: {0: 32} for name in ("context_dim", "dim_head", "learned_sinusoidal_dim")}
    assert find({0: 128}, others) is None
    found = find({0: 128}, {**others, "dim": {0: 32}})
    assert found == Expression(("dim",), "4 * {}")


def test_a_head_s_size_is_no_quotient_of_a_number_of_tokens():
    heads = {"heads": {0: 4}}
    assert find({0: 16}, {"max_seq_len": {0: 64}, "attn_pooler_queries": {0: 64}, **heads}) is None
    assert find({0: 16}, {"dim": {0: 64}, **heads}) == Expression(("dim", "heads"), "{} // {}")


def test_the_place_of_a_stage_is_no_part_of_a_width():
    stages = {"stage_index": {0: 1, 1: 2}, "dim": {0: 24, 1: 40}}
    assert text({0: 48, 1: 96}, stages, "out_channels") is None
    assert text({0: 1, 1: 2}, stages, "stage_index") == "args.stage_index"


def test_a_pool_is_padded_by_half_of_itself():
    symbols = {"patch": {0: 16, 1: 64}, "stride": {0: 16, 1: 16}, "pool_size": {0: 3, 1: 9}}
    assert text({0: 1, 1: 4}, symbols, "size") == "args.pool_size // 2"


def test_a_width_of_padding_is_no_size_that_has_its_value():
    assert find({0: 8}, {"states": {0: 8}}, ("pad",)) is None
    assert find({0: 8}, {"states": {0: 8}, "pad_size": {0: 8}}, ("pad",)) == Expression(
        ("pad_size",), "{}"
    )
    assert find({0: 8, 1: 16}, {"states": {0: 8, 1: 16}}, ("pad",)) == Expression(("states",), "{}")


def test_a_form_has_a_value_in_every_instance():
    """Of a block without attention the scale is not asked for, but its constructor works it out."""
    scale = {1: 8**-0.5, 2: 4**-0.5}
    symbols = {"width": {0: 16, 1: 32, 2: 32}, "num_heads": {0: 2, 1: 4, 2: 8}}
    assert find(scale, symbols, ("scale",)) is not None
    symbols["num_heads"][0] = 0
    assert find(scale, symbols, ("scale",)) is None


def test_windows_have_nothing_to_do_with_features():
    vector = {0: 1, 1: 2}
    symbols = {"in_channels": {0: 4, 1: 8}}
    assert find(vector, symbols, ("size",)) == Expression(("in_channels",), "{} // 4")
    assert find(vector, symbols, ("stride", "patch_size")) is None
