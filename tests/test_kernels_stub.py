"""The stub of the compiled kernels says what the compiled module has; its examples run."""

import ast
import doctest
import inspect
from pathlib import Path

import dnncore
from dnncore import _kernels, kernels


def stub_functions():
    text = (Path(dnncore.__file__).parent / "_kernels.pyi").read_text(encoding="utf-8")
    return {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}


def stub_parameters(node):
    """Return (name, default, whether by keyword only) of each parameter."""
    arguments = node.args
    positional = arguments.posonlyargs + arguments.args
    missing = [None] * (len(positional) - len(arguments.defaults))
    found = [
        (argument.arg, default, False)
        for argument, default in zip(positional, missing + arguments.defaults, strict=True)
    ] + [
        (argument.arg, default, True)
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    return [
        (name, inspect.Parameter.empty if default is None else ast.literal_eval(default), keyword)
        for name, default, keyword in found
    ]


def test_signatures_are_those_of_the_stub():
    for name, node in stub_functions().items():
        parameters = inspect.signature(getattr(_kernels, name)).parameters.values()
        actual = [(p.name, p.default, p.kind is p.KEYWORD_ONLY) for p in parameters]
        assert actual == stub_parameters(node), name


def test_every_function_is_in_the_stub_and_documented():
    functions = {
        name
        for name, member in vars(_kernels).items()
        if inspect.isroutine(member) and not name.startswith("__")
    }
    functions -= {"_choose_tier"}
    assert functions == set(stub_functions())
    for name in functions:
        assert getattr(_kernels, name).__doc__, name


def test_the_examples_run():
    result = doctest.testmod(kernels)
    assert result.attempted > 0
    assert not result.failed
