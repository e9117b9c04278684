"""Claims about what the dynamic linker would find in an image: libraries, symbols, and who gives them."""

import dataclasses
from collections.abc import Mapping

import pytest
from tests.cudabuilder import make_elf
from tests.elfbuilder import make_library, make_survey

from sparkbake.errors import ImageError
from sparkbake.linkage import Linkage, Preloaded, Unresolved, unresolved

SITE = "opt/venv/lib/python3.13/site-packages"
LIBC = make_library("libc.so.6", defined=["puts"])
USER = make_library("libuser.so", needed=["libc.so.6"])
PYTHON = make_library(needed=["libm.so.6"], defined=["PyLong_FromLong", "PyErr_Clear"])
LIBM = make_library("libm.so.6", defined=["sin"])


def check(files: Mapping[str, bytes], *, links: Mapping[str, str] | None = None, **env: str) -> Linkage:
    return unresolved(make_survey(files, links=links, env=env))


def faults(files: Mapping[str, bytes]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(one.path, one.kind, one.names) for one in check(files).unresolved]


def is_found(path: str, user: bytes = USER, *, links: Mapping[str, str] | None = None, **env: str) -> bool:
    """Whether the search finds a libc.so.6 that lies at a path, for a library in opt/app/lib."""
    found = check({"opt/app/lib/libuser.so": user, path: LIBC}, links=links, **env)
    assert found.checked == 2
    assert found.unresolved == ()
    return found.preloaded == ()


# ---- libraries


def test_a_file_whose_libraries_and_symbols_are_there_is_only_counted() -> None:
    files = {"usr/bin/a": make_library(needed=["libc.so.6"], undefined=["puts"]), "usr/lib/libc.so.6": LIBC}
    assert check(files) == Linkage(checked=2, unresolved=(), preloaded=())


def test_an_image_without_programs_shows_that_nothing_was_checked() -> None:
    assert check({"etc/motd": b"hello"}) == Linkage(checked=0, unresolved=(), preloaded=())


def test_only_files_of_the_image_s_machine_that_are_linked_are_checked() -> None:
    files = {"x86.so": make_library(needed=["libx.so"], machine=62), "static": make_elf(), "a.so": make_library()}
    assert check(files).checked == 1
    assert unresolved(make_survey(files, architecture="amd64")).unresolved[0].names == ("libx.so",)


def test_an_architecture_that_is_not_known_is_refused() -> None:
    with pytest.raises(ImageError, match="is for 's390x', expected one of arm64, amd64"):
        unresolved(make_survey({}, architecture="s390x"))


def test_a_library_that_is_nowhere_is_missing() -> None:
    files = {"usr/lib/a.so": make_library(needed=["libz.so.1", "libb.so.2", "libc.so.6"]), "usr/lib/libc.so.6": LIBC}
    assert check(files).unresolved == (
        Unresolved(
            path="usr/lib/a.so",
            kind="missing-library",
            names=("libb.so.2", "libz.so.1"),
            count=2,
            providers=(),
        ),
    )


@pytest.mark.parametrize("folder", ["lib", "usr/lib", "lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu"])
def test_default_folders_are_searched(folder: str) -> None:
    assert is_found(f"{folder}/libc.so.6")


def test_the_folder_of_another_machine_is_not_searched() -> None:
    assert not is_found("usr/lib/x86_64-linux-gnu/libc.so.6")


@pytest.mark.parametrize("search", ["$ORIGIN/../deps", "${ORIGIN}/../deps", "/nowhere:/opt/app/deps"])
def test_the_folders_of_a_runpath_are_searched(search: str) -> None:
    user = make_library("libuser.so", needed=["libc.so.6"], runpath=search)
    assert is_found("opt/app/deps/libc.so.6", user)
    assert not is_found("opt/other/libc.so.6", user)


def test_ld_library_path_of_the_config_is_searched() -> None:
    assert is_found("opt/cuda/libc.so.6", LD_LIBRARY_PATH="/nowhere::/opt/cuda")


def test_links_of_files_and_folders_are_followed() -> None:
    links = {"lib": "usr/lib", "usr/lib/libc.so.6": "../../opt/libc-2.so"}
    assert is_found("opt/libc-2.so", links=links)


def test_a_hard_link_is_the_file_that_it_is_of() -> None:
    files = {"opt/libc-2.so": LIBC, "opt/libuser.so": USER}
    survey = make_survey(files, hard_links={"usr/lib/libc.so.6": "opt/libc-2.so"})
    assert unresolved(survey) == Linkage(checked=2, unresolved=(), preloaded=())


def test_a_needed_path_is_taken_as_it_is() -> None:
    user = make_library(needed=["/opt/x/libc.so.6"])
    assert check({"opt/a.so": user, "opt/x/libc.so.6": LIBC}).preloaded == ()


def test_folders_of_ld_so_conf_are_searched_where_there_is_a_cache() -> None:
    """The dynamic linker reads the cache alone; ldconfig wrote it with these."""
    conf = {
        "etc/ld.so.conf": b"include /etc/ld.so.conf.d/*.conf\n",
        "etc/ld.so.conf.d/x.conf": b"# ours\n/opt/x # of x\n",
    }
    files = {"opt/libuser.so": USER, "opt/x/libc.so.6": LIBC, **conf}
    assert len(check(files).preloaded) == 1
    assert check({**files, "etc/ld.so.cache": b""}).preloaded == ()


def test_a_library_for_another_machine_is_passed_over() -> None:
    user = make_library(needed=["libc.so.6"], runpath="/opt/x86")
    files = {"a.so": user, "opt/x86/libc.so.6": make_library("libc.so.6", machine=62)}
    assert faults(files) == [("a.so", "missing-library", ("libc.so.6",))]
    assert faults({**files, "usr/lib/libc.so.6": LIBC}) == []


def test_what_the_search_does_not_find_and_the_image_has_is_preloaded_and_gives_its_symbols() -> None:
    """By soname, as the copies that auditwheel makes; or by the name of a file or link."""
    user = make_library(needed=["libtorch.so", "libc10.so"], undefined=["at_add", "c10_log"])
    files = {
        f"{SITE}/vllm/_C.abi3.so": user,
        f"{SITE}/torch/lib/libtorch.so": make_library(defined=["at_add"]),
        f"{SITE}/torch.libs/libc10-1b2c3d4e.so": make_library("libc10.so", defined=["c10_log"]),
    }
    path = f"{SITE}/vllm/_C.abi3.so"
    assert check(files) == Linkage(
        checked=3,
        unresolved=(),
        preloaded=(
            Preloaded(path=path, name="libtorch.so", found=(f"{SITE}/torch/lib/libtorch.so",)),
            Preloaded(path=path, name="libc10.so", found=(f"{SITE}/torch.libs/libc10-1b2c3d4e.so",)),
        ),
    )


# ---- symbols


def test_a_symbol_that_is_nowhere_is_undefined() -> None:
    user = make_library(needed=["libc.so.6"], undefined=["puts", "_ZN2at3addE", "_ZN2at3absE"])
    found = check({f"{SITE}/vllm/_C.abi3.so": user, "usr/lib/libc.so.6": LIBC})
    assert found.unresolved == (
        Unresolved(
            path=f"{SITE}/vllm/_C.abi3.so",
            kind="undefined-symbol",
            names=("_ZN2at3absE", "_ZN2at3addE"),
            count=2,
            providers=(),
        ),
    )


def test_a_file_may_give_its_own_symbols_and_those_of_what_its_libraries_need() -> None:
    user = make_library(needed=["libb.so"], defined=["own"], undefined=["own", "puts"])
    middle = make_library("libb.so", needed=["libc.so.6", "libb.so"])
    assert faults({"a": user, "lib/libb.so": middle, "lib/libc.so.6": LIBC}) == []


def test_a_symbol_of_a_library_that_is_not_needed_is_elsewhere() -> None:
    user = make_library(needed=["libc.so.6"], undefined=["puts", "at_add", "gone"])
    torch = make_library("libtorch.so", defined=["at_add"])
    found = check({"a.so": user, "lib/libc.so.6": LIBC, "opt/libtorch.so": torch}).unresolved
    assert [(one.kind, one.names, one.providers) for one in found] == [
        ("elsewhere", ("at_add",), ("opt/libtorch.so",)),
        ("undefined-symbol", ("gone",), ()),
    ]


def test_symbols_of_a_file_that_lacks_a_library_are_not_looked_at() -> None:
    """Nor of those that need it: the cause is named once."""
    broken = make_library("libb.so", needed=["libgone.so"], undefined=["gone"])
    files = {"a": make_library(needed=["libb.so"], undefined=["gone_too"]), "lib/libb.so": broken}
    assert faults(files) == [("lib/libb.so", "missing-library", ("libgone.so",))]


def test_the_driver_gives_its_symbols_to_what_needs_it_even_in_turn() -> None:
    files = {
        "a": make_library(needed=["libb.so"], undefined=["cuInit", "nvmlInit_v2"]),
        "lib/libb.so": make_library("libb.so", needed=["libcuda.so.1", "libnvidia-ml.so.1"]),
    }
    assert faults(files) == []


@pytest.mark.parametrize("symbol", ["cuFileOpen", "cublasCreate_v2", "nvmlInit_v2"])
def test_the_driver_s_libcuda_gives_no_other_symbols(symbol: str) -> None:
    files = {"a": make_library(needed=["libcuda.so.1"], undefined=[symbol])}
    assert faults(files) == [("a", "undefined-symbol", (symbol,))]


def test_a_file_that_does_not_need_the_driver_gets_nothing_of_it() -> None:
    assert faults({"a": make_library(undefined=["cuInit"])}) == [("a", "undefined-symbol", ("cuInit",))]


@pytest.mark.parametrize(
    "path",
    [
        f"{SITE}/vllm/_C.abi3.so",
        f"{SITE}/x/_x.cpython-313-aarch64-linux-gnu.so",
        "usr/lib/python3.13/lib-dynload/_x.so",
        "opt/app/_x.abi3.so",
    ],
)
def test_the_interpreter_and_what_it_needs_give_their_symbols_to_a_module_of_python(path: str) -> None:
    user = make_library(undefined=["PyLong_FromLong", "sin"])
    assert faults({path: user, "usr/bin/python3.13": PYTHON, "lib/libm.so.6": LIBM}) == []


def test_what_a_module_of_python_loads_gets_symbols_of_the_interpreter_too() -> None:
    files = {
        f"{SITE}/torch/_C.abi3.so": make_library(needed=["libtorch_python.so"], runpath="/opt"),
        "opt/libtorch_python.so": make_library("libtorch_python.so", undefined=["PyErr_Clear", "sin"]),
        "usr/bin/python3.13": PYTHON,
        "lib/libm.so.6": LIBM,
    }
    assert faults(files) == []


def test_a_symbol_that_another_python_had_is_undefined() -> None:
    files = {f"{SITE}/x.abi3.so": make_library(undefined=["PyOld"]), "bin/python3": PYTHON, "lib/libm.so.6": LIBM}
    assert faults(files) == [(f"{SITE}/x.abi3.so", "undefined-symbol", ("PyOld",))]


def test_a_program_gives_its_symbols_to_modules_made_for_it() -> None:
    files = {
        "usr/lib/perl5/POSIX.so": make_library(undefined=["Perl_croak", "sin"]),
        "usr/bin/perl": make_library(needed=["libm.so.6"], defined=["Perl_croak"]),
        "lib/libm.so.6": LIBM,
    }
    assert faults(files) == []


def test_a_program_that_only_needs_what_has_a_symbol_makes_no_process_for_a_module() -> None:
    user = make_library(undefined=["sin"])
    program = make_library(needed=["libm.so.6"])
    assert faults({"lib/a.so": user, "bin/b": program, "lib/libm.so.6": LIBM}) == [("lib/a.so", "elsewhere", ("sin",))]


def test_a_library_may_leave_symbols_to_what_else_is_loaded_with_it() -> None:
    """As LAPACK leaves those of BLAS to the program that is linked to both."""
    files = {
        "lib/liblapack.so": make_library("liblapack.so", undefined=["dgemm_"]),
        "lib/libblas.so": make_library("libblas.so", defined=["dgemm_"]),
    }
    assert faults(files) == [("lib/liblapack.so", "elsewhere", ("dgemm_",))]
    assert faults({**files, "opt/a.so": make_library(needed=["liblapack.so", "libblas.so"])}) == []


def test_the_debugger_gives_the_thread_library_its_symbols() -> None:
    assert faults({"lib/libthread_db.so.1": make_library(undefined=["ps_pdread"])}) == []


def test_the_result_is_in_the_order_of_paths_whatever_the_order_of_the_survey() -> None:
    files = {name: make_library(needed=["libgone.so"]) for name in ("c", "a", "b")}
    survey = make_survey(files)
    turned = dataclasses.replace(survey, binaries=dict(sorted(survey.binaries.items(), reverse=True)))
    assert [one.path for one in unresolved(turned).unresolved] == ["a", "b", "c"]
    assert unresolved(turned) == unresolved(survey)
