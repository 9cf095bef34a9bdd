"""Reads struct layouts and enumerators from the DWARF of a compiled C file, inside gdb, as JSON.

Run by gen/abi/extract.js: gdb -batch -x gen/layout.py FILE.o. The file defines `int anchor;`.
What it leaves to others: which of these structs matter, and what they are called in TypeScript.
"""

import json

import gdb

SCALARS = {
    "char": "char",
    "signed char": "s8",
    "unsigned char": "u8",
    "short": "s16",
    "unsigned short": "u16",
    "int": "s32",
    "unsigned int": "u32",
    "long": "s64",
    "unsigned long": "u64",
    "long long": "s64",
    "unsigned long long": "u64",
}
AGGREGATES = (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION)


def kind_of(ctype):
    return "union" if ctype.code == gdb.TYPE_CODE_UNION else "struct"


def describe(ctype):
    """Returns the type of a field: a scalar, a pointer, a named struct, or an inline one."""
    dims = []
    bare = ctype.strip_typedefs()
    while bare.code == gdb.TYPE_CODE_ARRAY:
        low, high = bare.range()
        # A flexible array has no upper bound in DWARF: its size is 0, and the size of its element is not.
        dims.append(0 if bare.sizeof == 0 else high - low + 1)
        ctype = bare.target()
        bare = ctype.strip_typedefs()
    told = {"c": str(ctype) if bare.code not in AGGREGATES or bare.tag else kind_of(bare)}
    if dims:
        told["dims"] = dims
    if bare.code in AGGREGATES and bare.tag:
        return {**told, "type": bare.tag}
    if bare.code in AGGREGATES:
        return {**told, "type": kind_of(bare), "size": bare.sizeof, "fields": members(bare, 0)}
    if bare.code == gdb.TYPE_CODE_PTR:
        return {**told, "type": "pointer"}
    return {**told, "type": SCALARS[str(bare.unqualified())]}


def members(ctype, base):
    """Returns the fields of a struct or union, in order; anonymous members are flattened as in C."""
    found = []
    for field in ctype.fields():
        bare = field.type.strip_typedefs()
        offset = base + field.bitpos // 8
        if not field.name:
            found += members(bare, offset)
        elif not field.name.startswith("__empty_"):
            entry = {"name": field.name, "offset": offset, **describe(field.type)}
            if field.bitsize:
                entry["bits"] = [field.bitpos % 8, field.bitsize]
            found.append(entry)
    return found


structs, enumerators = {}, {}
for symbol in gdb.lookup_global_symbol("anchor").symtab.static_block():
    ctype = symbol.type
    if symbol.addr_class == gdb.SYMBOL_LOC_CONST and symbol.name.startswith("KVM_"):
        values = {field.name: field.enumval for field in ctype.fields()}
        enumerators[symbol.name] = values[symbol.name]
    elif symbol.addr_class == gdb.SYMBOL_LOC_TYPEDEF and symbol.name.startswith("kvm_"):
        if ctype.code in AGGREGATES:
            structs[ctype.tag] = {
                "kind": kind_of(ctype),
                "size": ctype.sizeof,
                "fields": members(ctype, 0),
            }

print(json.dumps({"structs": structs, "enumerators": enumerators}, sort_keys=True))
