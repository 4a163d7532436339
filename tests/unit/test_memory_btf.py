"""Reading type information."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import MemoryReadError, MissingSymbolError
from harness.sampling.memory.btf import Btf, btf_bytes
from tests.made_btf import CONST, TYPEDEF, UNION, VOLATILE, MadeBtf


def made() -> MadeBtf:
    btf = MadeBtf()
    u32 = btf.integer("unsigned int", 4)
    s64 = btf.integer("long", 8, signed=True)
    u64 = btf.integer("unsigned long", 8)
    pointer = btf.pointer()
    links = btf.struct("list_head", 16, [("next", pointer, 0), ("prev", pointer, 64)])
    # struct { union { struct list_head lru; struct list_head pcp_list; }; unsigned long index; }
    lists = btf.struct("", 16, [("lru", links, 0), ("pcp_list", links, 0)], kind=UNION)
    inner = btf.struct("", 24, [("", lists, 0), ("index", u64, 128)])
    outer = btf.struct("", 24, [("", inner, 0), ("pp_magic", u64, 0)], kind=UNION)
    counter = btf.struct("", 8, [("counter", s64, 0)])
    atomic = btf.add(TYPEDEF, "atomic_long_t", counter)
    stats = btf.array(atomic, 3)
    quiet = btf.add(CONST, "", btf.add(VOLATILE, "", u32))
    btf.struct(
        "page", 64, [("flags", u64, 0), ("", outer, 64), ("type", quiet, 384), ("stat", stats, 256)]
    )
    btf.bitfields("packed", 4, [("low", u32, 0, 3), ("high", u32, 3, 5)])
    btf.enum("migratetype", {"MIGRATE_A": 0, "MIGRATE_B": 1, "MIGRATE_ALIAS": 1})
    btf.enum("signed", {"MINUS": -2}, signed=True)
    btf.enum64("wide", {"BIG": 1 << 40, "LOW": -1}, signed=True)
    return btf


def test_members_of_unnamed_structs_are_the_enclosing_ones() -> None:
    btf = Btf(made().bytes, "made")
    assert btf.size("page") == 64
    assert btf.offset("page", "flags") == 0
    assert btf.offset("page", "lru") == btf.offset("page", "pcp_list") == 8
    assert btf.offset("page", "pcp_list.prev") == 16
    assert btf.offset("page", "index") == 24
    assert btf.offset("page", "pp_magic") == 8
    assert btf.find("page", "no_such") is None
    assert btf.find("page", "flags.deeper") is None


def test_sizes_lengths_and_signs_behind_typedefs_and_qualifiers() -> None:
    btf = Btf(made().bytes, "made")
    stat = btf.member("page", "stat")
    assert (btf.size_of(stat.type_id), btf.length_of(stat.type_id)) == (24, 3)
    element = btf.element_of(stat.type_id)
    counter = btf.find_in(element, "counter")
    assert counter is not None
    assert btf.is_signed(counter.type_id)
    kind = btf.member("page", "type")
    assert btf.size_of(kind.type_id) == 4
    assert not btf.is_signed(kind.type_id)


def test_bit_fields_keep_their_width() -> None:
    btf = Btf(made().bytes, "made")
    high = btf.member("packed", "high")
    assert (high.bit_offset, high.bits) == (3, 5)


def test_enumerators_keep_order_sign_and_aliases() -> None:
    btf = Btf(made().bytes, "made")
    assert btf.enumerators("migratetype") == {"MIGRATE_A": 0, "MIGRATE_B": 1, "MIGRATE_ALIAS": 1}
    assert btf.enumerator("signed", "MINUS") == -2
    assert btf.enumerators("wide") == {"BIG": 1 << 40, "LOW": -1}


def test_what_is_missing_is_named() -> None:
    btf = Btf(made().bytes, "kernel 6.1")
    for call, said in (
        (lambda: btf.size("zone"), "kernel 6.1 knows no type named zone"),
        (lambda: btf.offset("page", "zone"), "struct page has no member zone"),
        (lambda: btf.enumerators("zone_flags"), "no type named zone_flags"),
        (lambda: btf.enumerator("migratetype", "MIGRATE_C"), "enum migratetype has no MIGRATE_C"),
        (lambda: btf.length_of(1), "no array"),
    ):
        with pytest.raises(MissingSymbolError, match=said):
            call()


def test_a_loop_of_typedefs_ends() -> None:
    btf = MadeBtf()
    btf.add(TYPEDEF, "a", 2)
    btf.add(TYPEDEF, "b", 1)
    with pytest.raises(MemoryReadError, match="loop of typedefs"):
        Btf(btf.bytes, "made").strip(1)


def test_an_unknown_kind_is_refused() -> None:
    btf = made()
    btf.add(27, "later", 0)
    with pytest.raises(MemoryReadError, match="unknown kind"):
        Btf(btf.bytes, "made")


def test_header_of_something_else() -> None:
    data = bytearray(made().bytes)
    assert btf_bytes(bytes(data)) == len(data)
    data[3] = 1  # flags
    assert btf_bytes(bytes(data)) is None
    assert btf_bytes(bytes(data[:20])) is None
    big = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 1 << 30, 1 << 30, 10)
    assert btf_bytes(big) is None


@given(st.data())
def test_cut_anywhere_it_is_refused(data: st.DataObject) -> None:
    whole = made().bytes
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(MemoryReadError):
        Btf(whole[:cut], "made")


@given(st.data())
def test_damage_never_reads_beyond_the_data(data: st.DataObject) -> None:
    whole = bytearray(made().bytes)
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(24, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        btf = Btf(bytes(whole), "made")
        btf.find("page", "pcp_list.prev")
        btf.enumerators("migratetype")
        btf.size_of(btf.member("page", "stat").type_id)
    except MemoryReadError:
        pass
