"""merged: classes that come out alike are one."""

from types import SimpleNamespace

from porter.emit.equal_classes import merged


def test_the_first_of_equal_classes_is_kept_and_so_are_those_around_them():
    chunks = [
        "class A(nn.Module):\n    x = 1",
        "class Fn(nn.Module):\n    x = 1",
        "class B(nn.Module):\n    a = A()",
        "class C(nn.Module):\n    a = Fn()\n    self.Fn(x)",
        "class D(nn.Module):\n    a = Fn()",
    ]
    order = [SimpleNamespace(name=chunk[6 : chunk.index("(")]) for chunk in chunks]
    assert merged(order, chunks) == [
        chunks[0],
        chunks[2],
        "class C(nn.Module):\n    a = A()\n    self.Fn(x)",
    ]
    assert [cls.name for cls in order] == ["A", "A", "B", "C", "B"]
