"""What the compiled code of a Python function does that a symbolic trace of it would drop, freeze or execute."""

from __future__ import annotations

import dis
import functools
from dataclasses import dataclass
from types import CodeType

from torch import Tensor

# Python 3.10 to 3.14 between them.
_REFUSED = {
    "SETUP_WITH": "a with statement",
    "BEFORE_WITH": "a with statement",
    "LOAD_SPECIAL": "a with statement",
    "SETUP_ASYNC_WITH": "an async with statement",
    "BEFORE_ASYNC_WITH": "an async with statement",
    "SETUP_FINALLY": "a try statement",
    "PUSH_EXC_INFO": "a try statement",
    "IMPORT_NAME": "an import",
    "LOAD_BUILD_CLASS": "a class definition",
    "MATCH_CLASS": "a match statement",
    "MATCH_MAPPING": "a match statement",
    "MATCH_SEQUENCE": "a match statement",
    "GET_AWAITABLE": "an await",
}
_ASSIGNS = ("STORE_ATTR", "DELETE_ATTR", "STORE_GLOBAL", "DELETE_GLOBAL")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_OUTER = ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF")
_FIXED = ("LOAD_CONST", "LOAD_GLOBAL", "LOAD_NAME")
_NONE_JUMPS = ("POP_JUMP_IF_NONE", "POP_JUMP_IF_NOT_NONE", "POP_JUMP_FORWARD_IF_NONE", "POP_JUMP_FORWARD_IF_NOT_NONE",
               "POP_JUMP_BACKWARD_IF_NONE", "POP_JUMP_BACKWARD_IF_NOT_NONE")  # fmt: skip


# What computes, moves values about, or branches on a value, which a stand-in refuses: a trace does as the forward does.
_NAMES = """
ASYNC_GEN_WRAP BINARY_ADD BINARY_AND BINARY_FLOOR_DIVIDE BINARY_LSHIFT BINARY_MATRIX_MULTIPLY BINARY_MODULO
BINARY_MULTIPLY BINARY_OP BINARY_OR BINARY_POWER BINARY_RSHIFT BINARY_SLICE BINARY_SUBSCR BINARY_SUBTRACT
BINARY_TRUE_DIVIDE BINARY_XOR BUILD_CONST_KEY_MAP BUILD_LIST BUILD_MAP BUILD_SET BUILD_SLICE BUILD_STRING
BUILD_TUPLE CALL CALL_FUNCTION CALL_FUNCTION_EX CALL_FUNCTION_KW CALL_INTRINSIC_1 CALL_INTRINSIC_2 CALL_KW
CALL_METHOD CLEANUP_THROW COMPARE_OP CONTAINS_OP CONVERT_VALUE COPY COPY_FREE_VARS DELETE_DEREF DELETE_FAST
DELETE_SUBSCR DICT_MERGE DICT_UPDATE DUP_TOP DUP_TOP_TWO END_FOR END_SEND FORMAT_SIMPLE FORMAT_VALUE
FORMAT_WITH_SPEC FOR_ITER GEN_START GET_ITER GET_LEN GET_YIELD_FROM_ITER INPLACE_ADD INPLACE_AND
INPLACE_FLOOR_DIVIDE INPLACE_LSHIFT INPLACE_MATRIX_MULTIPLY INPLACE_MODULO INPLACE_MULTIPLY INPLACE_OR INPLACE_POWER
INPLACE_RSHIFT INPLACE_SUBTRACT INPLACE_TRUE_DIVIDE INPLACE_XOR IS_OP JUMP_ABSOLUTE JUMP_BACKWARD
JUMP_BACKWARD_NO_INTERRUPT JUMP_FORWARD JUMP_IF_FALSE_OR_POP JUMP_IF_TRUE_OR_POP KW_NAMES LIST_APPEND LIST_EXTEND
LIST_TO_TUPLE LOAD_ASSERTION_ERROR LOAD_ATTR LOAD_CLASSDEREF LOAD_CLOSURE LOAD_COMMON_CONSTANT LOAD_CONST LOAD_DEREF
LOAD_FAST LOAD_FAST_AND_CLEAR LOAD_FAST_BORROW LOAD_FAST_BORROW_LOAD_FAST_BORROW LOAD_FAST_CHECK LOAD_FAST_LOAD_FAST
LOAD_FROM_DICT_OR_DEREF LOAD_FROM_DICT_OR_GLOBALS LOAD_GLOBAL LOAD_LOCALS LOAD_METHOD LOAD_NAME LOAD_SMALL_INT
LOAD_SUPER_ATTR LOAD_SUPER_METHOD LOAD_ZERO_SUPER_ATTR LOAD_ZERO_SUPER_METHOD MAKE_CELL MAKE_FUNCTION MAP_ADD NOP
POP_BLOCK POP_ITER POP_JUMP_BACKWARD_IF_FALSE POP_JUMP_BACKWARD_IF_NONE POP_JUMP_BACKWARD_IF_NOT_NONE
POP_JUMP_BACKWARD_IF_TRUE POP_JUMP_FORWARD_IF_FALSE POP_JUMP_FORWARD_IF_NONE POP_JUMP_FORWARD_IF_NOT_NONE
POP_JUMP_FORWARD_IF_TRUE POP_JUMP_IF_FALSE POP_JUMP_IF_NONE POP_JUMP_IF_NOT_NONE POP_JUMP_IF_TRUE POP_TOP PRECALL
PUSH_NULL RAISE_VARARGS RERAISE RESUME RETURN_CONST RETURN_GENERATOR RETURN_VALUE ROT_FOUR ROT_N ROT_THREE ROT_TWO
SEND SETUP_CLEANUP SET_ADD SET_FUNCTION_ATTRIBUTE SET_UPDATE STORE_DEREF STORE_FAST STORE_FAST_LOAD_FAST
STORE_FAST_MAYBE_NULL STORE_FAST_STORE_FAST STORE_NAME STORE_SLICE STORE_SUBSCR SWAP TO_BOOL UNARY_INVERT
UNARY_NEGATIVE UNARY_NOT UNARY_POSITIVE UNPACK_EX UNPACK_SEQUENCE YIELD_FROM YIELD_VALUE
"""
_KNOWN = frozenset(_NAMES.split())


@dataclass(frozen=True)
class Facts:
    refusal: str | None  # what a trace cannot represent
    names: tuple[tuple[str, ...], ...]  # global names used, each with the attributes taken from it: ("F", "relu")
    outer: tuple[tuple[str, ...], ...]  # the same for variables of enclosing functions
    modules: frozenset[str]  # arguments of which an attribute is tested with `is`: sound if they are modules


@functools.lru_cache(maxsize=4096)
def facts(code: CodeType) -> Facts:
    instructions = [i for i in dis.get_instructions(code) if i.opname not in ("EXTENDED_ARG", "CACHE", "NOT_TAKEN")]
    refusal = None
    names: dict[tuple[str, ...], None] = {}
    outer: dict[tuple[str, ...], None] = {}
    modules: set[str] = set()
    for at, instruction in enumerate(instructions):
        name = instruction.opname
        if name in ("LOAD_GLOBAL", "LOAD_NAME", *_OUTER):
            chain = [instruction.argval]
            for following in instructions[at + 1 :]:
                if following.opname not in _ATTRIBUTES:
                    break
                chain.append(following.argval)
            if name not in _OUTER:
                names[tuple(chain)] = None
            elif instruction.argval in code.co_freevars:
                outer[tuple(chain)] = None
        refusal = refusal or _refusal(code, instruction)
        if name in _NONE_JUMPS:
            tested = _tested(instructions, at - 1)
        elif name == "IS_OP":  # only `is None` and the like; of two unknown values either may be a tensor
            tested = _tested(instructions, at - 2) if instructions[at - 1].opname in _FIXED else None
        else:
            continue
        if tested is None:
            refusal = refusal or "an `is` on what may be a tensor"
        elif tested:
            modules.add(tested)
    return Facts(refusal, tuple(names), tuple(outer), frozenset(modules))


def unpacked(code: CodeType, offset: int) -> int | None:
    """How many values the instruction at `offset` takes from an iterable: 2 for `a, b = x`. None for another one."""
    instruction = next(i for i in dis.get_instructions(code) if i.offset == offset)
    return instruction.argval if instruction.opname == "UNPACK_SEQUENCE" else None


def _refusal(code: CodeType, instruction: dis.Instruction) -> str | None:
    name, argument = instruction.opname, instruction.argval
    if name in _REFUSED:
        return _REFUSED[name]
    if name in _ASSIGNS:
        return f"an assignment to {'.' if name.endswith('ATTR') else ''}{argument}"
    if name == "STORE_DEREF" and argument in code.co_freevars:
        return f"an assignment to {argument}"
    return None if name in _KNOWN else f"an instruction that is not known here, {name}"


def _tested(instructions: list[dis.Instruction], at: int) -> str | None:
    """The variable of which the instructions that end at `at` load an attribute.

    "" where they load a constant or a global. None where they load something else: it may be a tensor, and a trace
    would give the answer of a stand-in for it.
    """
    attributes = []
    while instructions[at].opname in _ATTRIBUTES:
        attributes.append(instructions[at].argval)
        at -= 1
    load = instructions[at]
    if load.opname in _FIXED:
        return ""
    if not attributes or (len(attributes) > 1 and hasattr(Tensor, attributes[0])):  # self.weight.grad is None
        return None
    variable = load.argval[-1] if isinstance(load.argval, tuple) else load.argval  # 3.13 has loads of two variables
    return variable if "LOAD_FAST" in load.opname or load.opname in _OUTER else None
