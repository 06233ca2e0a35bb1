"""What .ptmignore leaves out, against git itself."""

import os
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.clusters.test_upload import make
from tests.clusters.test_upload import sent as sent_of


def sent(root):
    return sent_of(root, ".")


NAMES = st.sampled_from(["a", "b", "ab", "x.log", "keep", "deep", "!keep", "a[", "]a", "a b", "A"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
PATTERNS = st.lists(
    st.sampled_from(
        [
            *("*.log", "/a", "a/", "!a/b", "deep/**", "**/keep", "!keep", "a*", "[ab]", "b/*", "!b/a", "#x", "", "x.log ", "deep/*/b"),
            *(
                "*",
                "!a",
                "!deep/",
                "?",
                "!*/",
                "keep/",
                "!/deep/a",
                "a/**/b",
                r"\!keep",
                "!**",
                "/",
                "!",
                "[",
                "a[",
                "[!b]",
                "[a-c]b",
                "**",
            ),
            *(
                "/**",
                "a/**/",
                "*/*",
                "!*/*",
                r"x\.log",
                r"\a",
                "a\\",
                "[[:alpha:]]",
                "[]a]",
                "a**",
                "**a",
                "a/b",
                "[^a]*",
                "x.log\\ ",
                r"[\a]",
            ),
        ]
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def git(tmp_path_factory):
    """Return what git would take of a folder, given a file of patterns."""
    home = tmp_path_factory.mktemp("git")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    clean |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    subprocess.run(["git", "init", "-q", str(home)], check=True, env=clean)

    def taken(root, patterns):
        words = ["git", "ls-files", "--others", f"--exclude-from={patterns}", "-z"]
        there = clean | {"GIT_DIR": str(home / ".git"), "GIT_WORK_TREE": str(root)}
        told = subprocess.run(words, check=True, cwd=root, capture_output=True, text=True, env=there).stdout
        return {name for name in told.split("\0") if name}

    return taken


@example(paths={"keep/x.log/a"}, patterns=["*.log", "!keep"])
@example(paths={"deep/a", "deep/b"}, patterns=["deep/**", "!deep/a"])
@given(paths=st.sets(PATHS, max_size=6), patterns=PATTERNS)
def test_ptmignore_means_what_git_means(git, tmp_path_factory, paths, patterns):
    root = tmp_path_factory.mktemp("tree")
    for path in sorted(paths, key=len, reverse=True):
        if not any((root / path).parents[depth].is_file() for depth in range(path.count("/"))) and not (root / path).exists():
            make(root, path)
    (root / ".ptmignore").write_text("\n".join(patterns))
    assert set(sent(root)) == git(root, root / ".ptmignore") - {".ptmignore"}
