"""Entries that must not get into a project: links out of the folder, pipes, names that are not UTF-8."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_360.exceptions import SourceError
from airflow_360.hooks.paths import Paths
from airflow_360.sources import Location
from airflow_360.sources.listing import has_files, list_files, list_scans, snapshot_scan
from airflow_360.sources.path import PathLocation

Open = Callable[[str], Location]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder next to the scan, with a file that must not be uploaded."""
    (tmp_path / "outside" / "sub").mkdir(parents=True)
    (tmp_path / "outside" / "secret.e57").write_bytes(b"secret")
    (tmp_path / "outside" / "sub" / "deep.e57").write_bytes(b"deep")
    return tmp_path / "outside"


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A scan of one file."""
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "a.e57").write_bytes(b"a")
    return tmp_path / "scan"


def opener(scheme: str = "", *, follow_links: bool = False) -> Open:
    """Return a function that opens a local path: as it is, or as a URL."""
    paths = Paths()
    return lambda path: paths.open(
        path if "://" in path else f"{scheme}{path}", None, follow_links=follow_links
    )


def names(path: Path, scheme: str = "", *, follow_links: bool = False, **more: Any) -> list[str]:
    files = list_files(opener(scheme, follow_links=follow_links), f"{scheme}{path}", **more)
    return sorted(file.relative for file in files)


def refusal(path: Path | str, scheme: str = "", **more: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        list_files(opener(scheme), f"{scheme}{path}", **more)
    assert not caught.value.retryable
    assert str(caught.value).isprintable()
    return caught.value


# -- links that lead out


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize("target", ["secret.e57", ""], ids=["file", "folder"])
@pytest.mark.parametrize("relative", [False, True])
def test_a_link_that_leads_out_is_refused(
    scan: Path, outside: Path, scheme: str, target: str, relative: bool
) -> None:
    """A link that leads out of the folder is refused by name, and both ways out are named."""
    (scan / "link.e57").symlink_to(Path("../outside") / target if relative else outside / target)
    error = str(refusal(scan, scheme))
    for part in ("link.e57", str(outside / target).rstrip("/"), "exclude", "follow_links=True"):
        assert part in error
    assert "a.e57" not in error.replace(str(outside), "")


def test_a_link_in_a_subfolder_is_refused(scan: Path, outside: Path) -> None:
    """A link is refused at any depth, and not if its folder is not entered."""
    (scan / "sub").mkdir()
    (scan / "sub" / "link.e57").symlink_to(outside / "secret.e57")
    assert "sub/link.e57" in str(refusal(scan))
    assert names(scan, recursive=False) == ["a.e57"]


def test_a_chain_of_links_that_leads_out_is_refused(scan: Path, outside: Path) -> None:
    """A link to a link that leads out is refused, and so is one through a folder with a similar name."""
    (scan / "one.e57").symlink_to(scan / ".two")
    (scan / ".two").symlink_to(outside / "secret.e57")
    assert "one.e57" in str(refusal(scan))
    (scan / "one.e57").unlink()
    (scan.parent / "scan2").mkdir()
    (scan.parent / "scan2" / "b.e57").write_bytes(b"b")
    (scan / "b.e57").symlink_to("../scan2/b.e57")
    assert "b.e57" in str(refusal(scan))


def test_all_links_that_lead_out_are_named(scan: Path, outside: Path) -> None:
    """One error names every link, so that you see all of them at once."""
    for number in range(3):
        (scan / f"link{number}.e57").symlink_to(outside / "secret.e57")
    error = str(refusal(scan))
    assert all(f"link{number}.e57" in error for number in range(3))


@pytest.mark.parametrize("exclude", ["link*", "LINK.E57", "out", ["nothing", "out/*", "link.e57"], "*"])
def test_exclude_is_a_way_out(scan: Path, outside: Path, exclude: Any) -> None:
    """A link that exclude leaves out is not refused, whether it leads to a file or to a folder."""
    (scan / "link.e57").symlink_to(outside / "secret.e57")
    (scan / "out").symlink_to(outside)
    both = "*" in exclude or isinstance(exclude, list)
    if exclude == "out":
        (scan / "link.e57").unlink()
    elif exclude in ("link*", "LINK.E57"):
        (scan / "out").unlink()
    assert names(scan, exclude=exclude) == ([] if exclude == "*" and both else ["a.e57"])


def test_pattern_leaves_a_link_to_a_file_out_and_not_one_to_a_folder(scan: Path, outside: Path) -> None:
    """A pattern leaves out a link to a file. The content of a linked folder is unknown, so it is refused."""
    (scan / "notes.txt").symlink_to(outside / "secret.e57")
    assert names(scan, pattern="*.e57") == ["a.e57"]
    (scan / "out").symlink_to(outside)
    error = str(refusal(scan, pattern="*.e57"))
    assert "out is a link" in error
    assert "notes.txt" not in error


def test_a_glob_refuses_only_links_that_it_could_mean(scan: Path, outside: Path) -> None:
    """A link to a folder is refused if the glob could mean a file in it."""
    (scan / "out").symlink_to(outside)
    assert names(Path(f"{scan}/*.e57")) == ["a.e57"]
    for glob in ("*", "*/*.e57", "o*/sub/*.e57"):
        assert "out is a link" in str(refusal(f"{scan}/{glob}"))
    assert names(Path(f"{scan}/x*/*.e57")) == []


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_links_are_followed_if_the_caller_trusts_them(scan: Path, outside: Path, scheme: str) -> None:
    """With follow_links a link to a file is a file, and one to a folder is entered."""
    (scan / "link.e57").symlink_to(outside / "secret.e57")
    (scan / "out").symlink_to(outside)
    found = ["a.e57", "link.e57", "out/secret.e57", "out/sub/deep.e57"]
    assert names(scan, scheme, follow_links=True) == found
    assert names(scan, scheme, follow_links=True, recursive=False) == ["a.e57", "link.e57"]


def test_a_loop_of_links_ends(scan: Path, outside: Path) -> None:
    """Links to the folder itself, to a folder above, or to each other do not loop for ever."""
    (scan / "self").symlink_to(scan)
    (scan / "sub").mkdir()
    (scan / "sub" / "up").symlink_to("..")
    assert names(scan) == ["a.e57"]
    (outside / "back").symlink_to(scan)
    (outside / "again").symlink_to(outside)
    (scan / "out").symlink_to(outside)
    (scan / "out2").symlink_to(outside)
    found = ["a.e57", "out/secret.e57", "out/sub/deep.e57"]
    assert names(scan, follow_links=True) == found


@pytest.mark.parametrize("follow_links", [False, True])
def test_a_link_to_itself_is_refused(scan: Path, follow_links: bool) -> None:
    """A link that leads to itself is refused by name; exclude is the way out."""
    (scan / "round.e57").symlink_to("round.e57")
    with pytest.raises(SourceError, match=r"round\.e57 is a broken link"):
        names(scan, follow_links=follow_links)
    assert names(scan, follow_links=follow_links, exclude="round.*") == ["a.e57"]


def test_a_link_that_stays_inside_is_followed(scan: Path) -> None:
    """A link to a file of the folder is a file; one to a folder is not entered, as it is listed anyway."""
    (scan / "sub").mkdir()
    (scan / "sub" / "b.e57").write_bytes(b"bb")
    (scan / "link.e57").symlink_to("sub/b.e57")
    (scan / "other").symlink_to("sub")
    assert names(scan) == ["a.e57", "link.e57", "sub/b.e57"]


def test_the_path_itself_may_be_a_link(scan: Path, outside: Path) -> None:
    """Links in a folder that was reached over a link are checked against the folder's real place."""
    (scan.parent / "current").symlink_to(scan)
    (scan / "inside.e57").symlink_to(scan / "a.e57")
    assert names(scan.parent / "current") == ["a.e57", "inside.e57"]
    (scan / "outside.e57").symlink_to(outside / "secret.e57")
    assert "outside.e57" in str(refusal(scan.parent / "current"))


def test_a_link_given_directly_is_followed(scan: Path, outside: Path) -> None:
    """If the path itself is a link, it is followed, because the author of the DAG chose it."""
    (scan / "link.e57").symlink_to(outside / "secret.e57")
    (file,) = list_files(opener(), str(scan / "link.e57"))
    assert (file.size, file.fault) == (6, "")


# -- scans


def test_a_scan_that_is_a_link_out_is_refused(scan: Path, outside: Path) -> None:
    """A scan that is a link that leads out is refused by name; exclude and follow_links are ways out."""
    (scan / "monday").mkdir()
    (scan / "monday" / "a.e57").write_bytes(b"a")
    (scan / "tuesday").symlink_to("monday")
    (scan / "out").symlink_to(outside)
    with pytest.raises(SourceError, match="out is a link that leads out of the folder"):
        list_scans(opener(), str(scan))
    inside = [f"{scan}/monday", f"{scan}/tuesday"]
    assert list_scans(opener(), str(scan), exclude="out") == inside
    assert list_scans(opener(follow_links=True), str(scan)) == [inside[0], f"{scan}/out", inside[1]]


def test_a_scan_with_a_link_out_is_listed_and_refused_by_its_upload(scan: Path, outside: Path) -> None:
    """A link within one scan fails this scan's upload, and not the list of all scans."""
    (scan / "link.e57").symlink_to(outside / "secret.e57")
    assert list_scans(opener(), str(scan.parent), "*.e57") == [str(outside), str(scan)]
    assert snapshot_scan(PathLocation(scan), str(scan), 1e10).age is not None


def test_no_session_for_a_folder_of_links(scan: Path, outside: Path) -> None:
    """If a folder contains only a link that leads out, this is an error before any session."""
    (scan / "a.e57").unlink()
    (scan / "link.e57").symlink_to(outside / "secret.e57")
    with pytest.raises(SourceError, match=r"link\.e57"):
        has_files(opener(), str(scan))
    assert has_files(opener(follow_links=True), str(scan))
    assert not has_files(opener(), str(scan), exclude="link.*")


# -- pipes, sockets, devices


def make_pipe(path: Path) -> str:
    os.mkfifo(path)
    return "is a named pipe"


def make_socket(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(path))  # a socket's address has room for about a hundred bytes
    return "is a socket"


def make_device(path: Path) -> str:
    path.symlink_to("/dev/zero")
    return "is a device"


SPECIAL = [make_pipe, make_socket, make_device]


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize("make", SPECIAL)
def test_special_files_in_a_folder_are_refused(scan: Path, make: Callable[[Path], str], scheme: str) -> None:
    """A pipe, a socket or a device in a folder is refused by name; exclude and pattern leave it out."""
    kind = make(scan / "special")
    with pytest.raises(SourceError, match=f"special {kind}"):
        names(scan, scheme, follow_links=True)
    assert names(scan, scheme, follow_links=True, exclude="special") == ["a.e57"]
    assert names(scan, scheme, follow_links=True, pattern="*.e57") == ["a.e57"]


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize("make", SPECIAL)
def test_special_files_given_directly_are_refused(
    tmp_path: Path, make: Callable[[Path], str], scheme: str
) -> None:
    """A pipe, a socket or a device that is itself the path is refused by name, and never opened."""
    kind = make(tmp_path / "special.e57")
    assert f"special.e57 {kind}" in str(refusal(tmp_path / "special.e57", scheme))
    location = opener(scheme)(f"{scheme}{tmp_path}/special.e57")
    with pytest.raises(SourceError, match=kind):
        location.info()


def test_a_file_that_becomes_a_pipe_is_not_opened(scan: Path) -> None:
    """A file that was replaced by a pipe before it is read is refused, rather than waited for."""
    location = PathLocation(scan / "a.e57")
    source = location.source(location.info())
    (scan / "a.e57").unlink()
    os.mkfifo(scan / "a.e57")
    with pytest.raises(SourceError, match="is a named pipe"):
        source.open(0)


# -- names that are not UTF-8


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_names_that_are_not_utf8_are_refused(scan: Path, kind: str) -> None:
    """A name that is not UTF-8 is refused and shown printable, unless it is excluded or hidden."""
    (scan / ".hidden").mkdir()
    strange = Path(os.fsdecode(os.fsencode(scan) + b"/b\xfcro\n.e57"))
    strange.write_bytes(b"x") if kind == "file" else strange.mkdir()
    Path(os.fsdecode(os.fsencode(scan) + b"/.\xff")).write_bytes(b"x")
    error = str(refusal(scan))
    assert r"b\xfcro\n.e57 has a name that is not UTF-8" in error
    error.encode()
    assert names(scan, exclude="b*.e57") == ["a.e57"]
    if kind == "folder":
        with pytest.raises(SourceError, match="not UTF-8"):
            list_scans(opener(), str(scan))
    with pytest.raises(SourceError, match="not UTF-8"):
        PathLocation(strange).info() if kind == "file" else list(PathLocation(strange).files(1))
