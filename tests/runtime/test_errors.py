import pickle

from anon_runtime.errors import AnonError, NoFaceError, UsageError, in_flags


def test_the_photos_name_is_put_on_at_the_edge() -> None:
    error = NoFaceError("no face was found in it", "use another photo")
    assert str(error) == "the photo: no face was found in it; use another photo"
    assert str(error.of("a.jpg")) == "a.jpg: no face was found in it; use another photo"
    assert type(error.of("a.jpg")) is NoFaceError


def test_errors_travel_between_processes() -> None:
    for error in (UsageError("what", "why", "fix"), NoFaceError("why", "fix").of("a.jpg"), AnonError("a", "b", "c")):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert (copy.what, copy.why, copy.fix) == (error.what, error.why, error.fix)


def test_settings_are_shown_as_the_command_lines_options() -> None:
    flags = {"min_face": "--min-face"}
    assert in_flags("allow smaller ones with `min_face`", flags) == "allow smaller ones with --min-face"
    assert in_flags("run `anon-export build`, or `other_name`", flags) == "run `anon-export build`, or `other_name`"
