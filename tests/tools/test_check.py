# SPDX-License-Identifier: MIT
"""Each rule of tools/check finds a bad sample, and leaves a good one alone."""

import shutil
import subprocess
from pathlib import Path

import pytest

from checks import binaries, format, rules, sizes
from checks.tree import Tree, without_comments, without_literals

TOP = Path(__file__).parents[2]
LICENCE = "/* SPDX-License-Identifier: MIT */\n"
# Marks that the checks would find in this file, too.
UNDATED = "FIX" + "ME"
TO_DO = "TO" + "DO"


@pytest.fixture
def tree(tmp_path):
    """Make a tree of the given files."""

    def make(files):
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return Tree(tmp_path, list(files))

    return make


def places(findings):
    return [(finding.path, finding.line) for finding in findings]


BAD_WORDS = [
    ("src/loop/a.c", "#include <Python.h>"),
    ("include/becket/a.h", '#include "Python.h"'),
    ("src/loop/a.c", "if (errno == EINTR) {"),
    ("python/ext/a.c", "errno = 0;"),
    ("src/net/a.c", "r = recv(fd, p, n, 0);"),
    ("src/net/a.c", "(void)close(fd);"),
    ("python/ext/a.c", "#if PY_VERSION_HEX < 0x030C0000"),
    ("python/ext/a.c", "Py_BEGIN_ALLOW_THREADS"),
    ("python/ext/a.c", "state = PyEval_SaveThread();"),
    ("python/ext/a.c", "n = loop->_count;"),
    ("python/ext/a.c", "static PyTypeObject LoopType = {"),
    ("python/ext/a.c", "static PyObject *cache;"),
    ("python/ext/a.c", "static PyObject *cache = NULL;"),
    ("tests/core/a.c", "static PyTypeObject *type = NULL;"),
    ("src/loop/a.c", "abort();"),
    ("src/loop/a.c", "_exit(1);"),
    ("src/loop/a.c", "exit(1);"),
    ("src/loop/a.c", "printf(x);"),
    ("src/loop/a.c", "vfprintf(stderr, x, ap);"),
]

GOOD_WORDS = [
    ("src/base/sys.c", "if (errno == EINTR) {"),
    ("src/base/sys.c", "r = recv(fd, p, n, 0);"),
    ("src/loop/a.c", "#include <errno.h>"),
    ("src/loop/a.c", "/* errno, Python.h, printf(), abort() */"),
    ("src/loop/a.c", 'name = "errno"; text = "printf(";'),
    ("src/loop/a.c", "my_errno = 0;"),
    ("src/loop/a.c", "snprintf(p, n, x);"),
    ("src/loop/a.c", "ops->close(self); bki_sys_close(fd); ops.send(x);"),
    ("src/loop/a.c", "n = loop->_count;"),
    ("python/ext/compat.h", "#if PY_VERSION_HEX < 0x030C0000"),
    ("python/ext/loop_run.c", "state = PyEval_SaveThread();"),
    ("python/ext/a.c", "static PyObject *\nmake(void)"),
    ("python/ext/a.c", "static PyTypeObject *\nmake(void)"),
    ("tests/core/a.c", "printf(x); abort();"),
]


@pytest.mark.parametrize(("path", "line"), BAD_WORDS)
def test_words_out_of_place(tree, path, line):
    bad = tree({path: LICENCE + "\n" + line + "\n"})
    assert places(rules.check_words(bad)) == [(path, 3)]


@pytest.mark.parametrize(("path", "line"), GOOD_WORDS)
def test_words_in_place(tree, path, line):
    good = tree({path: LICENCE + "\n" + line + "\n"})
    assert places(rules.check_words(good)) == []


def test_every_rule_has_a_bad_sample(tree):
    seen = set()
    for path, line in BAD_WORDS:
        findings = rules.check_words(tree({path: line}))
        seen |= {finding.message for finding in findings}
    assert seen == {rule.message for rule in rules.RULES}


def test_the_binding_includes_public_headers_only(tree):
    text = (
        '#include "becket/loop.h"\n'
        '#include "module.h"\n'
        "#include <sys/socket.h>\n"
        '#include "loop/internal.h"\n'
        '#include "../src/base/sys.h"\n'
    )
    bad = tree({"python/ext/a.c": text, "src/a.c": text})
    assert places(rules.check_binding_includes(bad)) == [
        ("python/ext/a.c", 4),
        ("python/ext/a.c", 5),
    ]


def test_marks_need_a_reason(tree):
    marked = tree(
        {
            "src/a.c": f"/* {TO_DO}: later */\n/* {UNDATED}: later */\n",
            "README.md": f"{TO_DO}\n",
            "python/b.py": f"# {UNDATED}(py 3.11): remove.\n",
        }
    )
    assert places(rules.check_marks(marked)) == [
        ("README.md", 1),
        ("src/a.c", 1),
        ("src/a.c", 2),
    ]
    assert rules.list_fixmes(marked) == [
        f"python/b.py:1: # {UNDATED}(py 3.11): remove."
    ]


def test_licence_lines(tree):
    mixed = tree(
        {
            "src/a.c": LICENCE,
            "src/b.c": "int x;\n",
            "tools/c.py": "import os\n",
            "tools/__init__.py": "",
        }
    )
    found = places(rules.check_licence(mixed))
    assert found == [("src/b.c", 1), ("tools/c.py", 1)]


def c_function(lines=5, parameters="void", body="    a();\n"):
    filler = "    a();\n" * (lines - 3 - body.count("\n"))
    return f"static int\nname({parameters})\n{{\n{body}{filler}}}\n"


def test_function_length(tree):
    assert sizes.FUNCTION_LINES_MAX == 70
    good = tree({"src/a.c": c_function(lines=70)})
    assert list(sizes.check_c_functions(good)) == []
    bad = tree({"src/a.c": "int x;\n\n" + c_function(lines=71)})
    (finding,) = sizes.check_c_functions(bad)
    assert (finding.path, finding.line) == ("src/a.c", 4)
    assert finding.message == "name: 71 lines long, at most 70"


def test_function_parameters(tree):
    eight = "int a, int b, int c, int d, int e, int f, int g, int (*h)(int, x)"
    good = tree({"src/a.c": c_function(parameters=eight)})
    assert list(sizes.check_c_functions(good)) == []
    bad = tree({"src/a.c": c_function(parameters=eight + ",\n     int i")})
    (finding,) = sizes.check_c_functions(bad)
    assert finding.message == "name: 9 parameters, at most 8"


def nested(depth):
    opening = "".join(f"{'    ' * (n + 1)}if (x) {{\n" for n in range(depth))
    closing = "".join(
        f"{'    ' * (n + 1)}}}\n" for n in reversed(range(depth))
    )
    return opening + closing


def test_function_nesting(tree):
    initializer = (
        "    struct x y = {{{{{{1}}}}}};\n    f(&(struct x){.a = {1}});\n"
    )
    good = tree({"src/a.c": c_function(20, body=initializer + nested(4))})
    assert list(sizes.check_c_functions(good)) == []
    bad = tree({"src/a.c": c_function(20, body=nested(5))})
    (finding,) = sizes.check_c_functions(bad)
    assert finding.message == "name: 5 blocks deep, at most 4"


def test_python_function_length(tree):
    def source(lines):
        return "async def f():\n" + "    a()\n" * (lines - 1)

    assert list(sizes.check_python_functions(tree({"a.py": source(70)}))) == []
    (finding,) = sizes.check_python_functions(tree({"a.py": source(71)}))
    assert finding.message == "f: 71 lines long, at most 70"


@pytest.mark.parametrize(
    ("path", "limit"),
    [("src/a.c", 800), ("include/becket/a.h", 500), ("python/a.py", 800)],
)
def test_file_length(tree, path, limit):
    good = tree({path: "\n" * limit})
    assert list(sizes.check_files(good)) == []
    bad = tree({path: "\n" * (limit + 1)})
    assert places(sizes.check_files(bad)) == [(path, 0)]


def test_columns(tree):
    bad = tree({"src/a.c": "x" * 80 + "\n" + "x" * 81 + "\n"})
    assert places(sizes.check_columns(bad)) == [("src/a.c", 2)]


def test_conditionals(tree):
    free = "#ifdef A\n#define B 1\n#include <b.h>\n#endif\n"
    counted = "#ifdef A\nint b;\n#endif\n"
    good = tree({"src/a.c": free * 3 + counted * 2})
    assert list(sizes.check_conditionals(good)) == []
    bad = tree({"src/a.c": counted * 3, "src/base/sys.c": counted * 3})
    assert places(sizes.check_conditionals(bad)) == [("src/a.c", 0)]


def test_clang_format_drift(tree):
    shutil.copy(TOP / ".clang-format", tree({}).top)
    good = tree({"a.c": "static int\nf(void)\n{\n    return 1;\n}\n"})
    assert list(format.check_clang_format(good)) == []
    bad = tree({"a.c": "static int f(void) { return 1; }\n"})
    assert places(format.check_clang_format(bad)) == [("a.c", 1)]


def test_ruff(tree):
    good = tree({"a.py": '"""Nothing."""\n'})
    assert list(format.check_ruff_lint(good)) == []
    assert list(format.check_ruff_format(good)) == []
    bad = tree({"a.py": "import os\nx = {  'a':1}\n"})
    (finding,) = format.check_ruff_lint(bad)
    assert "a.py:1:8: " in finding.message
    (finding,) = format.check_ruff_format(bad)
    assert "a.py" in finding.message


def test_types(tree):
    bad = tree(
        {
            "pyproject.toml": "[tool.mypy]\nstrict = true\n",
            "tools/a.py": "def f(x):\n    return x\n",
        }
    )
    (finding,) = format.check_types(bad)
    assert "tools/a.py:1: error: " in finding.message


def test_headers_stand_alone(tree):
    good = "#include <stddef.h>\nextern size_t x;\n"
    bad = tree(
        {
            "include/becket/good.h": good,
            "include/becket/bad.h": "extern size_t x;\n",
            "include/becket/c_only.h": "extern int class;\n",
        }
    )
    found = [
        (finding.path, "c++17" in finding.message)
        for finding in binaries.check_headers_alone(bad)
    ]
    assert found == [
        ("include/becket/bad.h", False),
        ("include/becket/bad.h", True),
        ("include/becket/c_only.h", True),
    ]


def shared_object(folder, name, text):
    library = folder / name
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", library],
        input=text,
        text=True,
        check=True,
    )
    return library


def test_symbols_of_the_library(tree):
    declared = (
        "BK_API int bk_one(void);\n"
        "BK_API const char *bk_two(int (*f)(int));\n"
        "/* BK_API int bk_comment(void); */\n"
        "BK_API void other(void);\n"
    )
    project = tree(
        {
            "include/becket/a.h": declared,
            "src/becket.map": "A {\n    global:\n        bk_*;\n"
            "    local:\n        *;\n};\n",
        }
    )
    text = "int bk_one(void){return 1;} int bk_three(void){return 1;}"
    library = shared_object(
        project.top, "liba.so", text + "void other(void){}"
    )
    found = [str(f) for f in binaries.check_library_symbols(project, library)]
    assert found == [
        "liba.so: bk_three is exported, but no public header declares it",
        "include/becket/a.h: bk_two is declared BK_API, but not exported",
        "src/becket.map: other is exported, but not named here",
    ]


def test_symbols_of_the_extension(tmp_path):
    entry = "void PyInit__core(void){}"
    good = shared_object(tmp_path, "good.so", entry)
    assert list(binaries.check_extension_symbols(good)) == []
    bad = shared_object(tmp_path, "bad.so", entry + "void bk_x(void){}")
    (finding,) = binaries.check_extension_symbols(bad)
    assert finding.message == "bk_x is exported: only PyInit__core may be"


def test_comments_and_literals():
    text = 'a /* b\n"c" */ d "e /* f */" \'"\' // g\nh'
    assert (
        without_comments(text) == 'a     \n       d "e /* f */" \'"\'     \nh'
    )
    bare = without_literals(text)
    assert bare.count("\n") == 2
    assert bare.split() == ["a", "d", '"', '"', "'", "'", "h"]


def test_deleted_and_binary_files_are_left_out(tree, tmp_path):
    (tmp_path / "b.bin").write_bytes(b"\xff\xfe\x00")
    project = tree({"a.c": "int x;\n"})
    again = Tree(project.top, ["a.c", "b.bin", "gone.c"])
    assert [source.path for source in again.sources] == ["a.c"]
