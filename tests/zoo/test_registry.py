import pytest

from zoo import InputError
from zoo.registry import Registry


def test_names_come_in_the_order_of_registration() -> None:
    registry: Registry[int] = Registry("number")
    registry.add("two", 2)
    registry.add("one", 1)
    assert list(registry) == ["two", "one"]
    assert len(registry) == 2
    assert registry["one"] == 1
    assert "one" in registry
    assert "three" not in registry


def test_unknown_name_suggests_and_lists() -> None:
    registry: Registry[int] = Registry("model")
    for name in ("efficientnet_lite0", "vgg_small"):
        registry.add(name, 0)
    with pytest.raises(InputError) as error:
        registry["EfficientNet-Lite0"]
    assert str(error.value) == (
        "Unknown model 'EfficientNet-Lite0'. Did you mean efficientnet_lite0? Available: efficientnet_lite0, vgg_small."
    )
    with pytest.raises(InputError, match=r"^Unknown model 'zzz'\. Available: efficientnet_lite0, vgg_small\.$"):
        registry["zzz"]


def test_empty_registry_says_so() -> None:
    with pytest.raises(InputError, match="Available: none"):
        Registry("model")["anything"]


def test_a_taken_name_is_refused() -> None:
    registry: Registry[object] = Registry("block")

    @registry.register("mine")
    def first() -> None: ...

    with pytest.raises(InputError, match=r"'mine' is taken by .*first\. Choose another name for .*second"):

        @registry.register("mine")
        def second() -> None: ...

    assert registry["mine"] is first


def test_the_same_function_again_replaces_the_first() -> None:
    registry: Registry[object] = Registry("block")

    def run_cell() -> object:
        @registry.register("mine")
        def block() -> None: ...

        return block

    first, second = run_cell(), run_cell()
    assert first is not second
    assert registry["mine"] is second


def test_an_equal_value_again_is_no_error_but_another_is() -> None:
    registry: Registry[tuple[int, ...]] = Registry("shape")
    registry.add("square", (2, 2))
    registry.add("square", (2, 2))
    with pytest.raises(InputError, match=r"taken by \(2, 2\)"):
        registry.add("square", (3, 3))
