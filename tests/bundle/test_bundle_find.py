"""A name, a name with a version, or a path: which folder it means, and what is said otherwise."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.bundle import find as find_module
from classmark.bundle import find_bundle, list_bundles
from classmark.errors import BundleCorrupt, BundleNotFound, NoHomeFolder

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models_home: Path) -> Path:
    """Put an empty folder in place of the wheel's bundles."""
    monkeypatch.setattr(find_module, "_WHEEL_FOLDER", tmp_path / "wheel")
    return tmp_path / "wheel"


def test_the_highest_version_wins_by_number_not_by_letter(make_bundle: Make) -> None:
    for version in ("1.9", "1.10", "1.2.5"):
        make_bundle("fast", version)
    assert find_bundle("fast").name == "fast-1.10"
    assert find_bundle("fast@1.2.5").name == "fast-1.2.5"


def test_no_spec_means_the_default_name(make_bundle: Make) -> None:
    make_bundle("fast", "1.0")
    make_bundle("other", "9.0")
    assert find_bundle().name == find_bundle("").name == "fast-1.0"


def test_the_highest_version_wins_wherever_it_lives(make_bundle: Make, wheel: Path) -> None:
    make_bundle("fast", "1.0")
    wheel.mkdir()
    make_bundle("fast", "1.1").rename(wheel / "fast-1.1")
    assert find_bundle("fast") == wheel / "fast-1.1"
    own = make_bundle("fast", "1.1")
    assert find_bundle("fast") == own, "of equal versions the user's own comes first"
    assert [(b.version, b.place) for b in list_bundles()] == [
        ("1.1", "user"),
        ("1.1", "wheel"),
        ("1.0", "user"),
    ]


def test_a_path_is_taken_as_it_is(
    make_bundle: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_bundle("tiny", "1.0")
    assert find_bundle(folder) == folder
    assert find_bundle(str(folder)) == folder
    folder.rename(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert find_bundle("mine") == Path("mine")
    assert find_bundle("./mine") == Path("mine")


def test_a_folder_of_that_name_that_is_no_bundle_does_not_hide_the_model(
    make_bundle: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_bundle("fast", "1.0")
    (tmp_path / "fast").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_bundle("fast") == folder


def test_an_unknown_name_says_where_it_was_sought_and_what_there_is(
    make_bundle: Make, models_home: Path
) -> None:
    with pytest.raises(BundleNotFound, match=r"no model 'fast' in .*models.*no model is installed"):
        find_bundle()
    make_bundle("tiny", "1.0")
    with pytest.raises(BundleNotFound, match=r"no model 'tinny' in .*there is tiny@1\.0\."):
        find_bundle("tinny")
    with pytest.raises(BundleNotFound, match=r"no model 'tiny@2\.0'"):
        find_bundle("tiny@2.0")


@pytest.mark.parametrize("make_folder", [True, False])
def test_a_path_without_a_bundle_says_so(tmp_path: Path, make_folder: bool) -> None:
    if make_folder:
        (tmp_path / "x").mkdir()
    problem = r"holds no bundle\.json" if make_folder else "is not a folder"
    with pytest.raises(BundleNotFound, match=rf"no model at .*x: it {problem}"):
        find_bundle(tmp_path / "x")


@pytest.mark.parametrize(
    "spec", ["..", ".", "tiny@", "tiny@..", "tiny@1.0rc", "@1.0", "tiny 1", "é"]
)
def test_what_is_not_a_name_is_refused(spec: str) -> None:
    with pytest.raises(BundleNotFound, match=r"does not name a model. Use NAME, NAME@VERSION or"):
        find_bundle(spec)


@pytest.mark.parametrize("spec", ["../home/models/tiny-1.0", "/etc", "tiny/../tiny-1.0"])
def test_a_path_is_refused_where_only_names_are_allowed(make_bundle: Make, spec: str) -> None:
    make_bundle("tiny", "1.0")
    with pytest.raises(BundleNotFound, match=r"does not name a model. Use NAME or NAME@VERSION;"):
        find_bundle(spec, allow_paths=False)


@pytest.mark.slow
@given(spec=st.text(max_size=20))
def test_a_name_never_leads_out_of_the_known_places(spec: str) -> None:
    try:
        found = find_bundle(spec, allow_paths=False)
    except BundleNotFound:
        return
    assert found in {bundle.path for bundle in list_bundles()}


def test_unfinished_and_foreign_folders_are_not_listed(
    make_bundle: Make, models_home: Path
) -> None:
    make_bundle("my-model_2", "1.0")
    (models_home / "notes-1.0").mkdir()
    (models_home / "file-1.0").write_text("x")
    make_bundle("half", "1.0").rename(models_home / ".half-1.0.a1b2")
    assert [bundle.spec for bundle in list_bundles()] == ["my-model_2@1.0"]


def test_a_renamed_folder_is_refused_and_both_names_are_told(make_bundle: Make) -> None:
    folder = make_bundle("tiny", "1.0")
    folder.rename(folder.with_name("tiny-9.0"))
    with pytest.raises(BundleCorrupt, match=r"is called tiny@9\.0 but.*says tiny@1\.0.*Rename"):
        find_bundle("tiny")


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"[" * 100_000])
def test_a_damaged_manifest_is_named_when_it_is_found(make_bundle: Make, content: bytes) -> None:
    (make_bundle("tiny", "1.0") / "bundle.json").write_bytes(content)
    with pytest.raises(BundleCorrupt, match=r"bundle\.json is damaged or unreadable"):
        find_bundle("tiny")


@pytest.mark.parametrize(
    ("value", "folder"), [("tiny_wheel", "."), ("tiny_wheel:models.large", "models/large")]
)
def test_an_installed_package_offers_its_bundles_without_being_executed(
    make_bundle: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, folder: str
) -> None:
    package = _install_package(tmp_path / "site", value)
    (package / "__init__.py").write_text("raise RuntimeError('executed')")
    place = package / folder
    place.mkdir(parents=True, exist_ok=True)
    make_bundle("deep", "1.0").rename(place / "deep-1.0")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert find_bundle("deep") == place / "deep-1.0"
    assert [bundle.place for bundle in list_bundles()] == ["package tiny-wheel"]


@pytest.mark.parametrize("value", ["gone_package", "gone.inner", "tiny_wheel_module"])
def test_a_package_that_is_gone_or_no_folder_offers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    _install_package(tmp_path / "site", value)
    (tmp_path / "site" / "tiny_wheel_module.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert list_bundles() == ()


def test_metadata_that_cannot_be_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site" / "odd-1.dist-info" / "entry_points.txt").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    assert list_bundles() == ()


def test_models_live_in_the_users_data_folder_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platformdirs = pytest.importorskip("platformdirs")
    monkeypatch.delenv("CLASSMARK_HOME")
    for value in ("", str(tmp_path / "data")):
        monkeypatch.setenv("XDG_DATA_HOME", value)
        expected = Path(platformdirs.user_data_dir("classmark")) / "models"
        assert find_module.models_folder() == expected


def test_a_user_without_a_home_folder_has_the_models_of_the_package(
    wheel: Path, make_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    make_bundle("fast", "1.0").parent.rename(wheel)
    monkeypatch.delenv("CLASSMARK_HOME")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert find_module.models_folder() is None
    assert find_bundle("fast") == wheel / "fast-1.0"
    with pytest.raises(BundleNotFound, match=r"no model 'mine' in .*set CLASSMARK_HOME"):
        find_bundle("mine")
    with pytest.raises(NoHomeFolder, match=r"no place for notes: .*Give --notes, or set CLASSMARK"):
        find_module.home_folder("notes", "--notes")


def test_finding_a_bundle_imports_no_numpy() -> None:
    code = (
        "import sys; from classmark.bundle import list_bundles; list_bundles(); "
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_room_names_what_it_does_not_have() -> None:
    import classmark.bundle

    with pytest.raises(AttributeError, match=r"'classmark\.bundle' has no attribute 'nothing'"):
        _ = classmark.bundle.nothing


def _install_package(site: Path, entry_point_value: str) -> Path:
    package = site / "tiny_wheel"
    package.mkdir(parents=True)
    metadata = site / "tiny_wheel-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-wheel\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[classmark.bundles]\nx = {entry_point_value}\n")
    return package
